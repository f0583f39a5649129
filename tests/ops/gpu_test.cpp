// The same operation on a GPU and on the CPU: that the kernels are given what they are to compute with, strides and
// all.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/ops/attention.h"
#include "slmi/ops/cross_entropy.h"
#include "slmi/ops/dropout.h"
#include "slmi/ops/linear_group.h"
#include "slmi/ops/nf4_tensors.h"
#include "slmi/ops/norm.h"
#include "slmi/ops/optimizer.h"
#include "slmi/ops/rope.h"
#include "slmi/ops/swiglu.h"
#include "slmi/quant/weight_format.h"

namespace slmi::ops::testing {
namespace {

/// A 16-bit result of f32 arithmetic: a rounding, and sums in another order.
constexpr double kRounding = 0x1p-8 + 1e-4;

double distance(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor w = want.to(at::kCPU, at::kDouble);
  return ((got.to(at::kCPU, at::kDouble) - w).norm() / w.norm()).item<double>();
}

/// [rows, width] of normal bf16 values on the GPU, rows `more` values apart.
at::Tensor values(int64_t rows, int64_t width, int64_t more = 0) {
  const at::Tensor out = at::empty({rows, width + more}, at::TensorOptions().dtype(at::kBFloat16).device(at::kCUDA));
  return out.narrow(1, 0, width).copy_(at::randn({rows, width}));
}

/// The same values in f32 on the CPU.
at::Tensor reference(const at::Tensor& x) {
  return x.to(at::kCPU, at::kFloat).contiguous();
}

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU here";
    at::manual_seed(7);
  }
  const at::TensorOptions f32_ = at::TensorOptions().dtype(at::kFloat).device(at::kCUDA);
};

TEST_F(Gpu, NormsAndTheResidual) {
  constexpr int64_t kRows = 5, kWidth = 576;
  const at::Tensor x = at::randn({kRows, kWidth}, f32_), weight = at::randn({kWidth}, f32_);
  const at::Tensor dy = values(kRows, kWidth, 16), out = values(kRows, kWidth, 48), rstd = at::empty({kRows}, f32_);
  const at::Tensor dx = at::randn({kRows, kWidth}, f32_);
  const at::Tensor want = at::empty({kRows, kWidth}), want_rstd = at::empty({kRows}), want_dx = reference(dx).clone();
  rms_norm_forward(reference(x), reference(weight), 1e-5, want, want_rstd);
  rms_norm_forward(x, weight, 1e-5, out, rstd);
  EXPECT_LT(distance(out, want), kRounding);
  EXPECT_LT(distance(rstd, want_rstd), 1e-6);
  rms_norm_backward(reference(dy), reference(x), reference(weight), want_rstd, want_dx);
  rms_norm_backward(dy, x, weight, rstd, dx);
  EXPECT_LT(distance(dx, want_dx), 1e-5);
  const at::Tensor in_place = dy.clone();
  rms_norm_backward(in_place, x, weight, rstd, dx, {}, in_place);
  EXPECT_TRUE(at::equal(in_place, out));
  EXPECT_TRUE(at::equal(add_residual(x, dy).cpu(), add_residual(reference(x), reference(dy))));
}

TEST_F(Gpu, Swiglu) {
  const at::Tensor gate_up = values(5, 2 * 192), d_out = values(5, 192, 16), out = values(5, 192, 16);
  const at::Tensor want = at::empty({5, 192}), want_d = at::empty({5, 384}), d = at::empty_like(gate_up);
  swiglu_forward(reference(gate_up), want);
  swiglu_forward(gate_up, out);
  EXPECT_LT(distance(out, want), kRounding);
  swiglu_backward(reference(gate_up), reference(d_out), want_d);
  swiglu_backward(gate_up, d_out, d);
  const at::Tensor du = values(5, 16, 32), grad_a = at::ones({16, 192}, f32_), with_a = gate_up.clone();
  if (swiglu_lora_fits(with_a, 16)) {
    swiglu_lora_backward(with_a, d_out, with_a, du, grad_a);
    EXPECT_TRUE(at::equal(with_a, d));
    EXPECT_LT(distance(grad_a, 1.0 + at::mm(reference(du).t(), out.cpu().to(at::kFloat))), 1e-5);
  }
  const at::Tensor again = gate_up.clone(), in_place = d_out.clone();
  swiglu_backward(again, in_place, again, in_place);
  EXPECT_TRUE(at::equal(again, d));
  EXPECT_TRUE(at::equal(in_place, out)) << "the activation again";
  EXPECT_LT(distance(d, want_d), kRounding);
}

TEST_F(Gpu, Rope) {
  const std::vector<float> frequencies(16, 0.37f);
  RopeTable table(frequencies, at::kCUDA), want_table(frequencies, at::kCPU);
  table.reserve(9);
  want_table.reserve(9);
  const at::Tensor x = values(4, 3 * 32, 64), positions = at::tensor({0, 8, 2, 2}, at::kInt);
  const at::Tensor want = reference(x);
  rope_apply(want, 3, want_table, positions, RopeDirection::Forward);
  rope_apply(x, 3, table, positions.cuda(), RopeDirection::Forward);
  EXPECT_LT(distance(x, want), kRounding);
}

TEST_F(Gpu, CrossEntropy) {
  const at::Tensor logits = values(6, 1000), targets = at::tensor({0, 999, 5, 5, 17, 400}, at::kInt);
  const at::Tensor want = reference(logits), want_loss = at::empty({6}), loss = at::empty({6}, f32_);
  cross_entropy(want, targets, CrossEntropyMode::LossAndGradient, want_loss);
  cross_entropy(logits, targets.cuda(), CrossEntropyMode::LossOnly, loss);
  EXPECT_LT(distance(loss, want_loss), 1e-5);
  cross_entropy(logits, targets.cuda(), CrossEntropyMode::LossAndGradient, loss);
  EXPECT_LT(distance(loss, want_loss), 1e-5);
  EXPECT_LT(distance(logits, want), kRounding);
}

TEST_F(Gpu, OptimizerStep) {
  constexpr int64_t kCount = 40'000;
  const at::Tensor start = at::randn({kCount}), gradient = at::randn({kCount});
  const auto run = [&](at::Device device, MomentBits bits) {
    const at::Tensor values = start.to(device).clone();
    const Moments moments(values, bits);
    StepNumbers numbers(device);
    AdamWOptions options;
    options.weight_decay = 0.01;
    for (int64_t step = 1; step <= 3; ++step) {
      const at::Tensor g = gradient.to(device).clone();
      numbers.set(1e-2, step, 32, 1.0, options);
      measure_gradient(g, numbers);
      adamw_step(values, g, moments, options, numbers);
      EXPECT_EQ(g.abs().sum().item<float>(), 0.0f);
    }
    return at::cat({values.cpu(), numbers.values.cpu()});
  };
  for (const MomentBits bits : {MomentBits::F32, MomentBits::Eight})
    EXPECT_LT(distance(run(at::kCUDA, bits), run(at::kCPU, bits)), 1e-6);
}

struct AttentionCase {
  const char* name;
  AttentionShape shape;
  std::vector<std::pair<int, int64_t>> segments;  // which segment is the prefix (-1: none), own tokens
};
class GpuAttention : public Gpu, public ::testing::WithParamInterface<AttentionCase> {};

std::vector<AttentionSegment> segments_of(const AttentionCase& wanted) {
  std::vector<AttentionSegment> out;
  int64_t row = 0;
  for (const auto& [prefix, length] : wanted.segments) {
    const bool shares = prefix >= 0;
    const auto* before = shares ? &out[static_cast<size_t>(prefix)] : nullptr;
    out.push_back({row, length, shares ? before->own_begin : 0, shares ? before->own_len : 0, row, length});
    row += length;
  }
  return out;
}

TEST_P(GpuAttention, OfPackedRowsEqualsTheCpus) {
  const AttentionShape shape = GetParam().shape;
  const auto segments = segments_of(GetParam());
  const int64_t rows = segments.back().q_begin + segments.back().q_len;
  const int64_t width = shape.num_heads * shape.head_dim, kv_width = shape.num_kv_heads * shape.head_dim;
  const at::Tensor qkv = values(rows, width + 2 * kv_width), d_out = values(rows, width, 48),
                   out = values(rows, width, 16);
  const auto parts = [&](const at::Tensor& x) {
    return std::array{x.narrow(1, 0, width), x.narrow(1, width, kv_width), x.narrow(1, width + kv_width, kv_width)};
  };
  const auto [q, k, v] = parts(qkv);
  const auto [rq, rk, rv] = parts(reference(qkv));
  const AttentionPlan plan(segments, at::kCUDA), want_plan(segments, at::kCPU);
  ASSERT_TRUE(plan.flash().offsets.defined());
  const at::Tensor lse = at::empty({rows, shape.num_heads}, f32_), want_lse = at::empty({rows, shape.num_heads}),
                   want = at::empty({rows, width});
  attention_forward(rq, rk, rv, shape, want_plan, want, want_lse);
  const at::Tensor kept = attention_forward(q, k, v, shape, plan, out, lse);
  EXPECT_TRUE(at::equal(kept, out));
  EXPECT_LT(distance(out, want), 2 * kRounding);  // probabilities are rounded too
  EXPECT_LT(distance(lse, want_lse), 1e-5);
  std::vector<float> inv_freq;
  for (int64_t i = 0; i < shape.head_dim / 2; ++i) inv_freq.push_back(std::pow(100.0f, -static_cast<float>(i)));
  RopeTable table(inv_freq, at::kCUDA), want_table(inv_freq, at::kCPU);
  table.reserve(rows);
  want_table.reserve(rows);
  const at::Tensor positions = at::arange(rows, at::kInt), device_positions = positions.cuda();
  for (const bool rotated : {false, true}) {
    const auto rotation = rotated ? std::optional<Rotation>({table, device_positions}) : std::nullopt;
    const auto want_rotation = rotated ? std::optional<Rotation>({want_table, positions}) : std::nullopt;
    const at::Tensor d = at::empty_like(qkv), again = at::empty_like(qkv), want_d = at::empty(qkv.sizes());
    attention_backward(reference(d_out), rq, rk, rv, want, want_lse, shape, want_plan, want_rotation, want_d);
    attention_backward(d_out, q, k, v, kept, lse, shape, plan, rotation, d);
    const auto got = parts(d), wanted = parts(want_d);
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_LT(distance(got[i], wanted[i]), 4 * kRounding) << "qkv"[i] << (rotated ? ", before its rotation" : "");
    attention_backward(d_out, q, k, v, out, lse, shape, plan, rotation, again);
    if (rows < 1000) {  // FlashAttention's own sums are not in one order
      EXPECT_TRUE(at::equal(again, d)) << "two runs, equal bits";
    }
  }
}

const std::vector<std::pair<int, int64_t>> kAroundTiles = {{-1, 63}, {-1, 64}, {-1, 65},  {-1, 1},  {3, 200}, {1, 15},
                                                           {1, 16},  {1, 17},  {-1, 130}, {8, 33},  {8, 32},  {8, 31},
                                                           {8, 129}, {2, 1},   {8, 64},   {-1, 256}};
INSTANTIATE_TEST_SUITE_P(
    Shapes, GpuAttention,
    ::testing::Values(AttentionCase{"Llama1B", {32, 8, 64}, {{-1, 64}, {0, 30}, {0, 7}, {0, 30}, {0, 41}}},
                      AttentionCase{"Small", {4, 2, 64}, {{-1, 10}, {0, 4}, {0, 1}, {-1, 10}, {-1, 7}, {4, 5}}},
                      AttentionCase{"AroundTiles", {6, 2, 64}, kAroundTiles},
                      AttentionCase{"SmolLM2", {9, 3, 64}, kAroundTiles},
                      AttentionCase{"WideHeads", {8, 2, 128}, kAroundTiles},
                      AttentionCase{"NoGroups", {2, 2, 64}, kAroundTiles},
                      AttentionCase{"OtherWidth", {4, 2, 32}, kAroundTiles},
                      AttentionCase{"Long", {4, 2, 64}, {{-1, 257}, {0, 300}, {0, 20}, {-1, 1000}}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(Gpu, QueriesOverACacheTakeTheOtherRoad) {
  EXPECT_FALSE(AttentionPlan({{0, 1, 0, 0, 8, 5}}, at::kCPU).flash().offsets.defined());
  EXPECT_FALSE(AttentionPlan({{0, 2, 0, 0, 0, 2}, {3, 2, 0, 0, 3, 2}}, at::kCPU).flash().offsets.defined());
}

struct LinearCase {
  int64_t k;  // a width that the tensor core kernels take, or one that they do not
  Residency residency;
  double dropout;
  quant::WeightFormat format = quant::WeightFormat::BF16;
};
class GpuLinear : public Gpu, public ::testing::WithParamInterface<LinearCase> {};

TEST_P(GpuLinear, ForwardAndBackwardEqualF64) {
  const int64_t k = GetParam().k, tokens = 75, rank = 16;
  const std::vector<int64_t> outputs = {128, 64, 64};
  std::vector<PackedMatrix> matrices;
  std::vector<LoraPair> pairs;
  std::vector<at::Tensor> weights;
  for (const int64_t n : outputs) {
    const auto stored = PackedMatrix::from_values("w", at::randn({n, k})).converted_to(GetParam().format);
    const at::Tensor w = at::empty({n, k}, at::kBFloat16);  // what is multiplied with
    stored.dequantize_into(w);
    weights.push_back(w.to(at::kDouble));
    matrices.push_back(stored.to(at::kCUDA));
    LoraPair pair;
    pair.a = at::zeros({rank, k}, f32_);
    pair.b = at::zeros({n, rank}, f32_);
    pair.grad_a = at::zeros_like(pair.a);
    pair.grad_b = at::zeros_like(pair.b);
    pair.scale = 2.0;
    pairs.push_back(pair);
  }
  LinearGroup group(matrices, {{0, "q_proj"}, {0, "k_proj"}, {0, "v_proj"}}, Compute::BF16, GetParam().residency);
  group.attach(pairs);
  for (const auto& pair : pairs) {  // changed afterwards, as a step of training does
    pair.a.normal_().mul_(0.1);
    pair.b.normal_().mul_(0.1);
  }
  group.refresh_adapters();
  const at::Tensor x = values(tokens, k), dy_ext = values(tokens, group.gradient_width());
  const at::Tensor dy = dy_ext.narrow(1, 0, 256), dy64 = dy.to(at::kCPU, at::kDouble);
  const at::Tensor x_ext = at::empty({tokens, group.input_width()}, x.options());
  const at::Tensor y = at::empty({tokens, 256}, x.options());
  x_ext.narrow(1, 0, k).copy_(x);
  DropoutContext dropout;
  dropout.probability = GetParam().dropout;
  dropout.step = 3;
  dropout.step_on_device = at::full({1}, 3, f32_.dtype(at::kLong));
  dropout.row_keys = at::arange(tokens, f32_.dtype(at::kLong));
  dropout.positions = at::arange(tokens, f32_.dtype(at::kInt));
  const auto* given = dropout.probability > 0 ? &dropout : nullptr;
  at::Tensor mask = at::ones({tokens, k}, x.options());
  if (given != nullptr) apply_dropout(mask, dropout, site_number(group.sites().front()), mask);
  mask = mask.to(at::kCPU, at::kDouble);

  group.forward(x_ext, y, given);
  const at::Tensor dx = group.backward(dy_ext, x_ext, given, LinearGroup::InputGradient::Wanted);
  const at::Tensor x64 = x.to(at::kCPU, at::kDouble);
  at::Tensor want_dx = at::zeros({tokens, k}, at::kDouble);
  int64_t row = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const at::Tensor a = pairs[i].a.to(at::kCPU, at::kDouble), b = pairs[i].b.to(at::kCPU, at::kDouble) * 2.0;
    const at::Tensor d = dy64.narrow(1, row, outputs[i]), u = at::mm(x64 * mask, a.t()), du = at::mm(d, b);
    EXPECT_LT(distance(y.narrow(1, row, outputs[i]), at::mm(x64, weights[i].t()) + at::mm(u, b.t())), 6e-3);
    want_dx += at::mm(d, weights[i]) + at::mm(du, a) * mask;
    EXPECT_LT(distance(pairs[i].grad_a, at::mm(du.t(), x64 * mask)), 6e-3);
    EXPECT_LT(distance(pairs[i].grad_b, at::mm(d.t(), u) * 2.0), 6e-3);
    row += outputs[i];
  }
  EXPECT_LT(distance(dx, want_dx), 6e-3);

  // The same from x A^T alone, x made again in the place of its gradient, and A's gradient taken by the caller.
  const auto take_gradients = [&] {
    std::vector<at::Tensor> out;
    for (const auto& pair : pairs) {
      out.push_back(at::cat({pair.grad_a.flatten(), pair.grad_b.flatten()}).cpu());
      pair.grad_a.zero_();
      pair.grad_b.zero_();
    }
    return out;
  };
  const auto gradients = take_gradients();
  for (const bool takes_gradients : {false, true}) {
    at::Tensor again;
    const auto remake = [&](const at::Tensor& its_dx, const LinearGroup::AGradients& a) {
      EXPECT_EQ(a.du.defined(), group.gives_a_gradients() && given == nullptr && k % 64 == 0);
      again = its_dx.clone();
      if (takes_gradients && a.du.defined()) {
        const at::Tensor all = at::mm(a.du.to(at::kFloat).t(), x.to(at::kFloat));
        for (size_t i = 0; i < a.targets.size(); ++i)
          a.targets[i].add_(all.narrow(0, static_cast<int64_t>(i) * rank, rank));
        return at::Tensor();
      }
      its_dx.copy_(x);
      return its_dx;
    };
    group.backward_remaking(dy_ext, x_ext.narrow(1, k, x_ext.size(1) - k).clone(), given, remake);
    EXPECT_TRUE(at::equal(again, dx));
    const auto got = take_gradients();
    for (size_t i = 0; i < got.size(); ++i) EXPECT_LT(distance(got[i], gradients[i]), 1e-5) << takes_gradients;
  }
}
INSTANTIATE_TEST_SUITE_P(Widths, GpuLinear,
                         ::testing::Values(LinearCase{128, Residency::Transient, 0.0},
                                           LinearCase{128, Residency::Resident, 0.0},
                                           LinearCase{128, Residency::Transient, 0.1},
                                           LinearCase{72, Residency::Transient, 0.0},
                                           LinearCase{72, Residency::Resident, 0.1},
                                           LinearCase{128, Residency::Transient, 0.0, quant::WeightFormat::Q8_0},
                                           LinearCase{256, Residency::Transient, 0.1, quant::WeightFormat::Q4_K},
                                           LinearCase{256, Residency::Resident, 0.0, quant::WeightFormat::Q6_K}));

std::vector<quant::WeightFormat> block_formats() {
  std::vector<quant::WeightFormat> out;
  for (const auto format : quant::all_weight_formats())
    if (quant::is_quantized(format) && !quant::has_planes(format)) out.push_back(format);
  return out;
}

TEST_F(Gpu, LinearsOfBlocksEqualTheCpusInF32) {
  constexpr int64_t kInputs = 512, kOutputs = 192, kTokens = 33, kRank = 8;
  for (const auto format : block_formats()) {
    const auto stored = PackedMatrix::from_values("w", at::randn({kOutputs, kInputs})).converted_to(format);
    const at::Tensor x = at::randn({kTokens, kInputs}), dy = at::randn({kTokens, kOutputs});
    const at::Tensor a = at::randn({kRank, kInputs}), b = at::randn({kOutputs, kRank});
    const auto run = [&](at::Device device) {  // output, gradients of x, A and B
      const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
      LoraPair pair;
      pair.a = a.to(device);
      pair.b = b.to(device);
      pair.grad_a = at::zeros_like(pair.a);
      pair.grad_b = at::zeros_like(pair.b);
      LinearGroup group({stored.to(device)}, {{0, "o_proj"}}, Compute::F32, Residency::Transient);
      group.attach({pair});
      const at::Tensor x_ext = at::empty({kTokens, group.input_width()}, options);
      x_ext.narrow(1, 0, kInputs).copy_(x);
      const at::Tensor y = at::empty({kTokens, kOutputs}, options);
      group.forward(x_ext, y, nullptr);
      const at::Tensor dx = group.backward(dy.to(device), x_ext, nullptr, LinearGroup::InputGradient::Wanted);
      return std::array{y, dx, pair.grad_a, pair.grad_b};
    };
    const auto got = run(at::kCUDA), want = run(at::kCPU);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_LT(distance(got[i], want[i]), 1e-5) << quant::name(format) << i;
  }
}

TEST_F(Gpu, Nf4Matrices) {
  const auto on_cpu = PackedMatrix::from_values("w", at::randn({33, 192})).converted_to(quant::WeightFormat::NF4);
  const at::Tensor want = at::empty({33, 192}, at::kBFloat16), got = values(33, 192, 48);
  on_cpu.dequantize_into(want);
  on_cpu.to(at::kCUDA).dequantize_into(got);
  EXPECT_TRUE(at::equal(got.cpu(), want));
}

class GpuNf4 : public Gpu, public ::testing::WithParamInterface<at::ScalarType> {};

/// Entries that differ.
size_t differing(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  EXPECT_EQ(a.size(), b.size());
  size_t count = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) count += a[i] != b[i] ? 1 : 0;
  return count;
}

// Codes are held exactly in cuda_kernels_test; reciprocals and the CPU's grid make some differ from the CPU's.
TEST_P(GpuNf4, MatricesAreQuantizedThere) {
  // Whole blocks and a short one; scales of more than one second-level block.
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{33, 192}, {33, 200}, {130, 1024}}) {
    const at::Tensor w = at::randn({n, k}).to(GetParam()), exact = w.to(at::kFloat);
    const std::span<const float> span(exact.const_data_ptr<float>(), static_cast<size_t>(exact.numel()));
    for (const auto scales : {quant::Nf4Scales::Plain, quant::Nf4Scales::Double}) {
      const auto want = quant::nf4_quantize(span, n, k, {scales, std::nullopt});
      const auto tensors = nf4_quantize(w.cuda(), scales);
      const auto got = to_matrix(tensors);
      EXPECT_EQ(got.n, n);
      EXPECT_EQ(got.k, k);
      EXPECT_LE(differing(got.codes, want.codes), 1);
      EXPECT_EQ(got.absmax, want.absmax);
      EXPECT_LE(differing(got.absmax_codes, want.absmax_codes), 1 + want.absmax_codes.size() / 100);
      EXPECT_EQ(got.absmax2, want.absmax2);
      EXPECT_EQ(got.offset, want.offset);
      EXPECT_EQ(to_matrix(to_tensors(want, at::kCUDA)).codes, want.codes);
    }
    const auto format = GetParam() == at::kFloat      ? quant::WeightFormat::F32
                        : GetParam() == at::kBFloat16 ? quant::WeightFormat::BF16
                                                      : quant::WeightFormat::F16;
    const auto stored = PackedMatrix::from_values("w", exact).converted_to(format);
    const auto there = stored.to(at::kCUDA).converted_to(quant::WeightFormat::NF4);
    EXPECT_EQ(there.format(), quant::WeightFormat::NF4);
    EXPECT_TRUE(there.device().is_cuda());
    const at::Tensor got = at::empty({n, k}, f32_), want = at::empty({n, k});
    there.dequantize_into(got);
    quant::nf4_dequantize(to_matrix(nf4_quantize(w.cuda(), quant::Nf4Scales::Double)),
                          {want.data_ptr<float>(), static_cast<size_t>(want.numel())});
    EXPECT_TRUE(at::equal(got.cpu(), want));
    const at::Tensor ids = at::tensor({3, 0}, at::kInt);
    EXPECT_TRUE(at::equal(there.rows(ids.cuda()).cpu(), want.index_select(0, ids)));
  }
}

TEST_P(GpuNf4, AValueThatIsNoneIsNamedAsOnTheCpu) {
  const at::Tensor w = at::randn({8, 128}).to(GetParam());
  w[5][77] = INFINITY;
  try {
    nf4_quantize(w.cuda(), quant::Nf4Scales::Double);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Numeric);
    EXPECT_STREQ(e.what(), "quantizing to NF4: value at row 5, column 77 is inf");
  }
}
INSTANTIATE_TEST_SUITE_P(Types, GpuNf4, ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(toString(info.param)); });

TEST_F(Gpu, BlockMatrices) {
  const at::Tensor weight = at::randn({33, 512}), ids = at::tensor({32, 0, 7, 7}, at::kInt);
  for (const auto format : block_formats()) {
    const auto on_cpu = PackedMatrix::from_values("w", weight).converted_to(format), on_gpu = on_cpu.to(at::kCUDA);
    EXPECT_EQ(on_gpu.format(), format);
    EXPECT_EQ(on_gpu.bytes(), on_cpu.bytes());
    EXPECT_FALSE(on_gpu.held_values().defined());
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor want = at::empty({33, 512}, type);
      on_cpu.dequantize_into(want);
      for (const int64_t more : {48, 3}) {  // rows that begin at multiples of 16 bytes, and others
        const at::Tensor got = at::empty({33, 512 + more}, f32_.dtype(type)).narrow(1, 0, 512);
        on_gpu.dequantize_into(got);
        EXPECT_TRUE(at::equal(got.cpu(), want)) << quant::name(format) << " " << type << " " << more;
      }
    }
    EXPECT_TRUE(at::equal(on_gpu.rows(ids.cuda()).cpu(), on_cpu.rows(ids))) << quant::name(format);
  }
}

}  // namespace
}  // namespace slmi::ops::testing
