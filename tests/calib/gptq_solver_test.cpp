// The solver against numpy by another road (golden file), against answers known by thought, and against its own claims.
#include "slmi/calib/gptq_solver.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "../../src/calib/columns.h"
#include "../quant/test_support.h"
#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/calib/hessian.h"
#include "solver_inputs.h"

namespace slmi::calib {
namespace {

constexpr int64_t kRows = 6, kColumns = 64, kTokens = 160;

at::Tensor matrix(const std::vector<float>& values, int64_t rows) {
  return at::tensor(values, at::kFloat).view({rows, -1});
}

InputStatistics only(const at::Tensor& hessian) {
  InputStatistics out;
  out.hessian = hessian;
  return out;
}

struct Case {
  const char* name;
  ColumnOrder order;
};

class GoldenSolver : public testing::TestWithParam<Case> {
 protected:
  const test::Golden golden_{"gptq_solver.txt", "calib"};
  std::string key(const std::string& part) const { return std::string(GetParam().name) + "." + part; }
};

TEST_P(GoldenSolver, CodesScalesAndErrorsAreThoseOfOptimalBrainSurgery) {
  const at::Tensor weight = matrix(golden_.values<float>("weight"), kRows);
  const at::Tensor x = matrix(golden_.values<float>("inputs"), kTokens);
  GptqOptions options;
  options.group_size = 16;
  options.order = GetParam().order;
  const GptqResult got = gptq_quantize(weight, hessian_of(x), options, "test");
  EXPECT_TRUE(test::equal_bits(got.codes.codes, golden_.values<uint8_t>(key("codes"))));
  EXPECT_TRUE(test::equal_bits(got.codes.g_idx, golden_.values<int32_t>(key("g_idx"))));
  std::vector<float> scales;
  for (const uint16_t bits : golden_.values<uint16_t>(key("scales"))) scales.push_back(f16_to_f32(bits));
  EXPECT_TRUE(test::equal_bits(got.codes.scales, scales));
  EXPECT_EQ(got.dead_inputs, 1);
  EXPECT_EQ(got.damp_raises, 0);
  EXPECT_EQ(got.damp, options.damp);
  const auto errors = golden_.values<double>(key("errors")), energies = golden_.values<double>("energies");
  for (size_t i = 0; i < errors.size(); ++i) {
    EXPECT_NEAR(got.errors[i], errors[i], 1e-4 * errors[i]) << i;
    EXPECT_NEAR(got.energies[i], energies[i], 1e-4 * energies[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, GoldenSolver,
                         testing::Values(Case{"stored", ColumnOrder::AsStored}, Case{"act", ColumnOrder::ActOrder},
                                         Case{"group", ColumnOrder::GroupAware}),
                         [](const auto& info) { return info.param.name; });

at::Tensor values_of(const quant::GptqCodes& m) {
  at::Tensor out = at::empty({m.n, m.k}, at::kFloat);
  const auto planes = quant::gptq_pack(m, quant::GptqZeros::MinusOne);
  quant::gptq_dequantize_rows(planes.view(), out.data_ptr<float>(), m.k, 0, m.n);
  return out;
}

class Solver : public testing::TestWithParam<ColumnOrder> {};

/// The errors it reports are those of what would be stored, with products and sums in f64.
TEST_P(Solver, ReportsTheErrorOfWhatIsStored) {
  const at::Tensor weight = random_weight(64, 320, 3), x = correlated(700, 320, 4);
  GptqOptions options;
  options.group_size = 64;
  options.order = GetParam();
  const GptqResult got = gptq_quantize(weight, hessian_of(x), options, "test");
  const at::Tensor e = (values_of(got.codes) - weight).to(at::kDouble), inputs = x.to(at::kDouble);
  const double tokens = static_cast<double>(x.size(0));
  const double error = at::mm(e, inputs.t()).square().sum().item<double>() * 2 / tokens;
  const double energy = at::mm(weight.to(at::kDouble), inputs.t()).square().sum().item<double>() * 2 / tokens;
  EXPECT_NEAR(sum(got.errors), error, 1e-4 * error);
  EXPECT_NEAR(sum(got.energies), energy, 1e-4 * energy);
}

/// Wide enough for several blocks of columns; the last one short. Each row by itself need not gain: in sum they do, by
/// much, since the inputs hang together.
TEST_P(Solver, IsFarBelowRoundToNearest) {
  for (const int64_t group : {32, 64, 320}) {
    GptqOptions options;
    options.group_size = group == 320 ? -1 : group;
    options.order = GetParam();
    const GptqResult got =
        gptq_quantize(random_weight(64, 320, 5), hessian_of(correlated(700, 320, 6)), options, "test");
    EXPECT_LT(sum(got.errors), 0.6 * sum(got.nearest_errors)) << group;
    EXPECT_EQ(got.codes.groups, 320 / group);
  }
}

TEST_P(Solver, GivesTheSameBitsAgain) {
  const at::Tensor weight = random_weight(64, 320, 7);
  const InputStatistics inputs = hessian_of(correlated(700, 320, 8));
  GptqOptions options;
  options.group_size = 64;
  options.order = GetParam();
  const GptqResult first = gptq_quantize(weight, inputs, options, "test");
  const GptqResult again = gptq_quantize(weight, inputs, options, "test");
  EXPECT_TRUE(test::equal_bits(first.codes.codes, again.codes.codes));
  EXPECT_TRUE(test::equal_bits(first.codes.scales, again.codes.scales));
  EXPECT_EQ(first.errors, again.errors);
}

INSTANTIATE_TEST_SUITE_P(Orders, Solver,
                         testing::Values(ColumnOrder::AsStored, ColumnOrder::ActOrder, ColumnOrder::GroupAware));

/// Inputs that do not hang together leave nothing to make up for: what is left is round-to-nearest by the searched
/// scales, below that by the largest weight.
TEST(GptqSolver, OfIndependentInputsIsRoundToNearest) {
  const at::Tensor weight = random_weight(32, 128, 9), hessian = at::eye(128, at::kFloat) * 0.7;
  for (const ColumnOrder order : {ColumnOrder::AsStored, ColumnOrder::GroupAware}) {
    GptqOptions options;
    options.group_size = 32;
    options.order = order;
    const GptqResult got = gptq_quantize(weight, only(hessian), options, "test");
    EXPECT_LT(sum(got.errors), 0.85 * sum(got.nearest_errors));
    const auto w = weight.accessor<float, 2>();
    for (int64_t row = 0; row < 32; ++row) {
      for (int64_t i = 0; i < 128; ++i) {
        const float scale = got.codes.scales[static_cast<size_t>(row * 4 + i / 32)];
        const float code = std::clamp(std::nearbyint(w[row][i] / scale) + 8, 0.0F, 15.0F);
        EXPECT_EQ(got.codes.codes[static_cast<size_t>(row * 128 + i)], static_cast<uint8_t>(code));
      }
    }
  }
}

/// A grid of -8..7 times 1/8 holds these weights: the side with one code more is that of the largest.
TEST(GptqSolver, TheScaleMayBeNegative) {
  at::Tensor weight = at::full({32, 64}, 0.25);
  weight.select(1, 5).fill_(1.0);
  weight.select(1, 7).fill_(-0.875);
  weight.select(1, 40).fill_(-1.0);
  GptqOptions options;
  options.group_size = 32;
  options.order = ColumnOrder::AsStored;
  const GptqResult got = gptq_quantize(weight, only(at::eye(64, at::kFloat)), options, "test");
  EXPECT_LT(sum(got.errors), 1e-6 * sum(got.energies));
  EXPECT_EQ(got.codes.scales[0], -0.125F);
  EXPECT_EQ(got.codes.codes[5], 0);
  EXPECT_EQ(got.codes.codes[7], 15);
  EXPECT_EQ(got.codes.scales[1], 0.125F);
  EXPECT_EQ(got.codes.codes[40], 0);
  EXPECT_EQ(got.codes.codes[41], 10);
}

TEST(GptqSolver, AllZeroWeightsStayZero) {
  GptqOptions options;
  options.group_size = 32;
  const GptqResult got = gptq_quantize(at::zeros({32, 32}), hessian_of(correlated(100, 32, 1)), options, "test");
  EXPECT_EQ(values_of(got.codes).abs().max().item<float>(), 0.0F);
  EXPECT_EQ(sum(got.errors), 0.0);
}

TEST(GptqSolver, RaisesTheDampingStepByStepAndSaysSo) {
  const at::Tensor weight = random_weight(32, 32, 2);
  at::Tensor hessian = at::eye(32, at::kFloat);
  hessian.narrow(0, 0, 2).narrow(1, 0, 2).fill_(1.095F);  // an eigenvalue of 0
  hessian[0][0] = hessian[1][1] = 1.0F;                   // now of -0.095
  GptqOptions options;
  options.group_size = 32;
  options.damp = 0.05;
  options.damp_step = 0.02;
  options.max_damp = 0.2;
  const GptqResult got = gptq_quantize(weight, only(hessian), options, "test");
  EXPECT_EQ(got.damp_raises, 3);
  EXPECT_NEAR(got.damp, 0.11, 1e-12);
  options.max_damp = 0.09;
  try {
    gptq_quantize(weight, only(hessian), options, "layer 3, o_proj");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(ErrorKind::Numeric));
    for (const char* part : {"layer 3, o_proj: ", "not positive definite", "--max-damp (now 0.09)"})
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

void expect_error(ErrorKind kind, const std::string& part, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(kind)) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(GptqSolver, WhatIsNoNumberIsNamed) {
  const at::Tensor weight = random_weight(32, 64, 2), hessian = at::eye(64, at::kFloat);
  GptqOptions options;
  options.group_size = 64;
  at::Tensor bad = hessian.clone();
  bad[3][4] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorKind::Numeric, "layer 1: its Hessian holds NaN",
               [&] { gptq_quantize(weight, only(bad), options, "layer 1"); });
  bad = weight.clone();
  bad[3][4] = std::numeric_limits<float>::infinity();
  expect_error(ErrorKind::Numeric, "layer 1: its weights hold NaN",
               [&] { gptq_quantize(bad, only(hessian), options, "layer 1"); });
  expect_error(ErrorKind::Numeric, "all its calibration inputs are 0", [&] {
    gptq_quantize(weight, only(at::zeros({64, 64})), options, "layer 1");
  });
  GptqOptions wrong = options;
  wrong.group_size = 48;
  expect_error(ErrorKind::Usage, "groups of 48 do not divide its rows of 64",
               [&] { gptq_quantize(weight, only(hessian), wrong, "layer 1"); });
  wrong = options;
  wrong.damp_step = 0;
  expect_error(ErrorKind::Usage, "damping from 0.05 by 0 to 0.5",
               [&] { gptq_quantize(weight, only(hessian), wrong, "layer 1"); });
}

/// Inputs that earlier matrices changed: the product with them should be that of the unquantized model's inputs.
TEST(GptqSolver, MakesUpForChangedInputs) {
  const at::Tensor weight = random_weight(64, 128, 21), reference = correlated(900, 128, 22);
  at::manual_seed(23);
  const at::Tensor x = reference * 0.95 + at::randn({900, 128}) * 0.1 * reference.std(0);
  Hessian sums(128, at::kCPU);
  sums.add(x.narrow(0, 0, 400), reference.narrow(0, 0, 400));
  sums.add(x.narrow(0, 400, 500), reference.narrow(0, 400, 500));
  const InputStatistics inputs = sums.finish("test");
  const at::Tensor x64 = x.to(at::kDouble), r64 = reference.to(at::kDouble), w64 = weight.to(at::kDouble);
  const at::Tensor drift = at::mm((r64 - x64).t(), x64) * (2.0 / 900);
  EXPECT_LT((inputs.drift - drift).abs().max().item<double>(), 1e-5 * drift.abs().max().item<double>());
  for (const ColumnOrder order : {ColumnOrder::AsStored, ColumnOrder::ActOrder, ColumnOrder::GroupAware}) {
    GptqOptions options;
    options.group_size = 32;
    options.order = order;
    options.damp = 0.001;
    const auto lost = [&](const GptqResult& got) {
      return (at::mm(x64, values_of(got.codes).to(at::kDouble).t()) - at::mm(r64, w64.t())).norm().item<double>();
    };
    const GptqResult plain = gptq_quantize(weight, inputs, options, "test");
    options.drift_alpha = 1.0;
    const GptqResult moved = gptq_quantize(weight, inputs, options, "test");
    EXPECT_LT(lost(moved), 0.9 * lost(plain));
    // As if the best weights had been given, found in f64.
    at::Tensor hessian = at::mm(x64.t(), x64) * (2.0 / 900);
    hessian.diagonal().add_(options.damp * hessian.diagonal().mean().item<double>());
    const at::Tensor best = w64 + at::linalg_solve(hessian, at::mm(w64, drift).t()).t();
    options.drift_alpha = 0.0;
    const GptqResult given = gptq_quantize(best.to(at::kFloat), inputs, options, "test");
    const at::Tensor a = values_of(given.codes), b = values_of(moved.codes);
    EXPECT_LT(((a - b).norm() / a.norm()).item<double>(), 0.02);
    EXPECT_NEAR(sum(moved.errors), sum(given.errors), 0.02 * sum(given.errors));
  }
}

/// Both ways through one block after the other, with a grid each.
void expect_both_ways_equal(RowGrid& by_rows, RowGrid& by_columns, int64_t n, int64_t k, const std::string& what) {
  ColumnState rows;
  rows.weight = random_weight(n, k, 13);
  rows.weight.narrow(0, 3, 1).narrow(1, 0, 64).zero_();
  rows.factor = at::triu(at::randn({k, k}) * 0.1 + at::eye(k));
  rows.codes = at::zeros({n, k}, at::kByte);
  rows.errors = at::zeros({n, kColumnBlock}, at::kFloat);
  rows.grid = &by_rows;
  ColumnState columns = rows;
  for (auto* tensor : {&columns.weight, &columns.codes, &columns.errors}) *tensor = tensor->clone();
  columns.grid = &by_columns;
  for (int64_t begin = 0; begin < k; begin += kColumnBlock) {
    quantize_block(rows, begin, std::min(k, begin + kColumnBlock));
    quantize_block_by_columns(columns, begin, std::min(k, begin + kColumnBlock));
  }
  EXPECT_TRUE(at::equal(rows.codes, columns.codes)) << what;
  EXPECT_TRUE(at::equal(by_rows.steps, by_columns.steps)) << what;
  EXPECT_TRUE(at::equal(rows.errors, columns.errors)) << what;
  EXPECT_TRUE(at::equal(rows.weight, columns.weight)) << what;
  EXPECT_GT(rows.codes.to(at::kFloat).std().item<float>(), 1.0F) << what;
}

/// The way of a GPU, on this device.
TEST(Columns, ByColumnsOrByRowsTheBitsAreTheSame) {
  const int64_t n = 40, k = 512;
  const at::Tensor like = at::empty({1}, at::kFloat);
  for (const int64_t group : {32, 128, 512}) {
    const at::Tensor cost = at::rand({k}) + 0.1;
    GptqGrid rows(n, group, cost, like), columns(n, group, cost, like);
    expect_both_ways_equal(rows, columns, n, k, std::to_string(group));
  }
  using quant::WeightFormat;
  const at::Tensor strength = at::rand({k}) + 0.1;
  const std::vector<float> importance(strength.data_ptr<float>(), strength.data_ptr<float>() + k);
  for (const auto format : {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q8_0,
                            WeightFormat::Q3_K, WeightFormat::Q4_K, WeightFormat::Q6_K}) {
    BlockGrid rows(format, n, k, importance, like), columns(format, n, k, importance, like);
    expect_both_ways_equal(rows, columns, n, k, std::string(quant::name(format)));
  }
}

/// More columns than a strip, in batches of several types.
TEST(HessianSum, IsTheMeanOfOuterProducts) {
  for (const int64_t k : {32, 256, 257, 600}) {
    const at::Tensor x = correlated(90, k, 11).to(at::kBFloat16), y = correlated(33, k, 12);
    Hessian hessian(k, at::kCPU);
    hessian.add(x);
    hessian.add(y);
    EXPECT_EQ(hessian.tokens(), 123);
    const at::Tensor all = at::cat({x.to(at::kDouble), y.to(at::kDouble)});
    const at::Tensor want = at::mm(all.t(), all) * (2.0 / 123), got = hessian.finish("test").hessian;
    EXPECT_LT((got - want).abs().max().item<double>(), 1e-5 * want.abs().max().item<double>()) << k;
    EXPECT_TRUE(at::equal(got, got.t()));
  }
}

TEST(HessianSum, WhatIsNoNumberIsNamed) {
  Hessian hessian(32, at::kCPU);
  expect_error(ErrorKind::Numeric, "layer 2: no calibration token", [&] { hessian.finish("layer 2"); });
  at::Tensor x = at::ones({4, 32});
  x[1][2] = std::numeric_limits<float>::quiet_NaN();
  hessian.add(x);
  expect_error(ErrorKind::Numeric, "layer 2: its calibration inputs hold NaN", [&] { hessian.finish("layer 2"); });
  // In what the unquantized model gives: its inputs, or the residual.
  for (const bool residual : {false, true}) {
    Hessian sums(32, at::kCPU);
    const at::Tensor good = at::ones({4, 32});
    sums.add(good, residual ? good : x, residual ? x : at::Tensor());
    expect_error(ErrorKind::Numeric, "layer 2: its calibration inputs hold NaN", [&] { sums.finish("layer 2"); });
  }
}

}  // namespace
}  // namespace slmi::calib
