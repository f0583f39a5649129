// GPTQ onto GGUF blocks: against the plain quantizers where there is nothing to make up for, and against its own
// claims.
#include "slmi/calib/block_solver.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "slmi/base/error.h"
#include "slmi/quant/gguf_codec.h"
#include "solver_inputs.h"

namespace slmi::calib {
namespace {

using quant::WeightFormat;

at::Tensor values_of(WeightFormat format, std::span<const std::byte> blocks, int64_t n, int64_t k) {
  const auto values = quant::dequantize(format, blocks, n, k);
  return at::tensor(values).view({n, k});
}

constexpr WeightFormat kFormats[] = {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1,
                                     WeightFormat::Q8_0, WeightFormat::Q2_K, WeightFormat::Q3_K, WeightFormat::Q4_K,
                                     WeightFormat::Q5_K, WeightFormat::Q6_K};

class BlockSolver : public testing::TestWithParam<WeightFormat> {};

/// Inputs that have nothing to do with each other leave nothing to make up for: the plain quantizer's blocks. Those of
/// 32 weights take the mean square of a row there, of a block here: rows of one block are the same.
TEST_P(BlockSolver, WithoutCorrelationGivesTheQuantizersOwnBits) {
  const WeightFormat format = GetParam();
  const int64_t k = quant::block_size(format) == 32 ? 32 : 512, n = 50;
  const at::Tensor weight = random_weight(n, k, 3);
  InputStatistics inputs;
  inputs.hessian = at::eye(k) * 2;
  const BlockRows rows[] = {{n, format}};
  const BlockResult got = block_quantize(weight, inputs, rows, {}, "test");
  const std::vector<float> importance(static_cast<size_t>(k), 1.0F);
  const auto want =
      quant::quantize(format, {weight.data_ptr<float>(), static_cast<size_t>(n * k)}, n, k, {.importance = importance});
  const at::Tensor a = values_of(format, got.blocks[0], n, k), b = values_of(format, want, n, k);
  // Nearest codes on the same grid; some quantizers choose theirs before the scale is rounded to f16, which is no
  // better.
  EXPECT_GE((a == b).sum().item<int64_t>(), n * k * 99 / 100) << (a != b).sum();
  EXPECT_LE((a - weight).square().sum().item<double>(), (b - weight).square().sum().item<double>() * (1 + 1e-6));
}

TEST_P(BlockSolver, ReportsTheErrorOfWhatIsStored) {
  const WeightFormat format = GetParam();
  const at::Tensor weight = random_weight(48, 512, 5), x = correlated(900, 512, 6);
  const BlockRows rows[] = {{48, format}};
  const BlockResult got = block_quantize(weight, hessian_of(x), rows, {}, "test");
  const at::Tensor e = (values_of(format, got.blocks[0], 48, 512) - weight).to(at::kDouble), inputs = x.to(at::kDouble);
  const double error = at::mm(e, inputs.t()).square().sum().item<double>() * 2 / 900;
  const double energy = at::mm(weight.to(at::kDouble), inputs.t()).square().sum().item<double>() * 2 / 900;
  EXPECT_NEAR(sum(got.errors), error, 1e-4 * error + 1e-7 * energy);
  EXPECT_NEAR(sum(got.energies), energy, 1e-4 * energy);
  EXPECT_LT(sum(got.errors), 0.7 * sum(got.nearest_errors));
}

TEST_P(BlockSolver, ZerosStayZero) {
  const BlockRows rows[] = {{20, GetParam()}};
  const BlockResult got = block_quantize(at::zeros({20, 256}), hessian_of(correlated(500, 256, 1)), rows, {}, "test");
  EXPECT_EQ(values_of(GetParam(), got.blocks[0], 20, 256).abs().max().item<float>(), 0.0F);
  EXPECT_EQ(sum(got.errors), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Formats, BlockSolver, testing::ValuesIn(kFormats),
                         [](const auto& info) { return std::string(quant::name(info.param)); });

/// Rows do not know of each other, whatever the formats of their neighbours.
TEST(BlockSolver, RowsOfSeveralFormatsAreThoseOfEachAlone) {
  const at::Tensor weight = random_weight(70, 512, 7);
  const InputStatistics inputs = hessian_of(correlated(900, 512, 8));
  const BlockRows rows[] = {{33, WeightFormat::Q4_K}, {20, WeightFormat::Q6_K}, {17, WeightFormat::Q8_0}};
  const BlockResult together = block_quantize(weight, inputs, rows, {}, "test");
  int64_t first = 0;
  for (size_t i = 0; i < 3; ++i) {
    const BlockResult alone = block_quantize(weight.narrow(0, first, rows[i].n), inputs, {&rows[i], 1}, {}, "test");
    const at::Tensor a = values_of(rows[i].format, together.blocks[i], rows[i].n, 512),
                     b = values_of(rows[i].format, alone.blocks[0], rows[i].n, 512);
    EXPECT_LT(((a - b).norm() / b.norm()).item<double>(), 1e-2) << i;  // products of other heights sum in other orders
    EXPECT_NEAR(sum(alone.errors),
                std::accumulate(together.errors.begin() + first, together.errors.begin() + first + rows[i].n, 0.0),
                0.02 * sum(alone.errors))
        << i;
    first += rows[i].n;
  }
}

TEST(BlockSolver, WhatBlocksCannotHoldIsNamed) {
  at::Tensor weight = random_weight(4, 256, 9);
  weight[2][3] = 40000;
  const BlockRows rows[] = {{4, WeightFormat::Q4_K}};
  try {
    block_quantize(weight, hessian_of(correlated(500, 256, 1)), rows, {}, "layer 1");
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Numeric);
    EXPECT_NE(std::string(e.what()).find("layer 1: it holds 40000"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace slmi::calib
