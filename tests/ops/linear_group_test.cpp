// A linear group in bf16 (packed once where the CPU has AVX512_BF16) against the same group computed in f64.
#include "slmi/ops/linear_group.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "slmi/kernels/cpu/simd.h"

namespace slmi::ops::testing {
namespace {

constexpr int64_t kInputs = 64;

/// A matrix of bf16 values, stored as BF16.
PackedMatrix matrix(const at::Tensor& values) {
  const at::Tensor bf16 = values.to(at::kBFloat16).contiguous();
  auto owner = std::make_shared<std::vector<std::byte>>(bf16.nbytes());
  std::memcpy(owner->data(), bf16.data_ptr(), owner->size());
  formats::StoredTensor tensor;
  tensor.name = "w";
  tensor.format = quant::WeightFormat::BF16;
  tensor.shape = {values.size(0), values.size(1)};
  tensor.bytes = *owner;
  tensor.owner = owner;
  return PackedMatrix::from_stored(tensor);
}

at::Tensor rounded(const at::Tensor& x) {
  return x.to(at::kBFloat16).to(at::kDouble);
}

double relative(const at::Tensor& got, const at::Tensor& want) {
  return ((got.to(at::kDouble) - want).norm() / want.norm()).item<double>();
}

struct Case {
  int64_t tokens, rank;
  bool dropout;
};

class LinearGroupTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(5);
    for (const int64_t n : {48, 16, 40}) {
      weights_.push_back(rounded(at::randn({n, kInputs})));
      LoraPair pair;
      pair.a = at::randn({rank(), kInputs}) * 0.1;
      pair.b = at::randn({n, rank()}) * 0.1;
      pair.grad_a = at::zeros_like(pair.a);
      pair.grad_b = at::zeros_like(pair.b);
      pair.scale = 2.0;
      pairs_.push_back(pair);
    }
    x_ = rounded(at::randn({tokens(), kInputs}));
    dy_ = rounded(at::randn({tokens(), 104}));
    if (!GetParam().dropout) return;
    dropout_.probability = 0.25;
    dropout_.seed = 3;
    dropout_.row_keys = at::arange(tokens(), at::kLong);
    dropout_.positions = at::arange(tokens(), at::kInt);
  }

  int64_t tokens() const { return GetParam().tokens; }
  int64_t rank() const { return GetParam().rank; }
  const DropoutContext* dropout() const { return GetParam().dropout ? &dropout_ : nullptr; }

  LinearGroup group() const {
    std::vector<PackedMatrix> matrices;
    for (const auto& w : weights_) matrices.push_back(matrix(w));
    LinearGroup out(std::move(matrices), {{0, "q_proj"}, {0, "k_proj"}, {0, "v_proj"}}, Compute::BF16,
                    Residency::Resident);
    out.attach(pairs_);
    return out;
  }

  /// x as the adapters see it.
  at::Tensor masked(const at::Tensor& x) const {
    if (dropout() == nullptr) return x;
    const at::Tensor in = x.to(at::kFloat), out = at::empty_like(in);
    apply_dropout(in, dropout_, site_number({0, "q_proj"}), out);
    return out.to(at::kDouble);
  }

  std::vector<at::Tensor> weights_;  // f64
  std::vector<LoraPair> pairs_;
  at::Tensor x_, dy_;  // f64
  DropoutContext dropout_;
};

TEST_P(LinearGroupTest, ForwardAndBackwardEqualF64) {
  const LinearGroup lora = group();
  const at::Tensor x_ext = at::full({tokens(), lora.input_width()}, std::nan(""), at::kBFloat16);
  x_ext.narrow(1, 0, kInputs).copy_(x_);
  const at::Tensor y = at::empty({tokens(), lora.n()}, at::kBFloat16);
  lora.forward(x_ext, y, dropout());
  const at::Tensor dx = lora.backward(dy_.to(at::kBFloat16), x_ext, dropout(), LinearGroup::InputGradient::Wanted);

  at::Tensor want_dx = at::zeros({tokens(), kInputs}, at::kDouble), want_du_a = at::zeros_like(want_dx);
  int64_t row = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    const auto& p = pairs_[i];
    const int64_t n = weights_[i].size(0);
    const at::Tensor dy = dy_.narrow(1, row, n), seen = masked(x_);
    const at::Tensor want_y = at::mm(x_, weights_[i].t());
    const at::Tensor a = p.a.to(at::kDouble), b = p.b.to(at::kDouble) * p.scale;
    EXPECT_LT(relative(y.narrow(1, row, n), want_y + at::mm(at::mm(seen, a.t()), b.t())), 6e-3) << i;
    const at::Tensor du = at::mm(dy, b);
    want_dx += at::mm(dy, weights_[i]);
    want_du_a += at::mm(du, a);
    EXPECT_LT(relative(p.grad_a, at::mm(du.t(), seen)), 1e-2) << i;
    EXPECT_LT(relative(p.grad_b, at::mm(dy.t(), at::mm(seen, a.t())) * p.scale), 1e-2) << i;
    row += n;
  }
  EXPECT_LT(relative(dx, want_dx + masked(want_du_a)), 6e-3);
}

TEST_P(LinearGroupTest, AnInputMadeAgainGivesTheSameGradients) {
  const LinearGroup lora = group();
  const at::Tensor x_ext = at::empty({tokens(), lora.input_width()}, at::kBFloat16), dy = dy_.to(at::kBFloat16);
  x_ext.narrow(1, 0, kInputs).copy_(x_);
  lora.forward(x_ext, at::empty({tokens(), lora.n()}, at::kBFloat16), dropout());
  const auto take_gradients = [&] {
    std::vector<at::Tensor> out;
    for (const auto& p : pairs_) {
      out.push_back(p.grad_a.clone());
      out.push_back(p.grad_b.clone());
      p.grad_a.zero_();
      p.grad_b.zero_();
    }
    return out;
  };
  take_gradients();
  const at::Tensor want_dx = lora.backward(dy, x_ext, dropout(), LinearGroup::InputGradient::Wanted);
  const auto want = take_gradients();
  at::Tensor dx;
  const at::Tensor u = x_ext.narrow(1, kInputs, lora.input_width() - kInputs).clone();
  lora.backward_remaking(dy, u, dropout(), [&](const at::Tensor& its_dx, const auto& a) {
    EXPECT_FALSE(a.du.defined()) << "on a CPU x is wanted";
    dx = its_dx.clone();
    its_dx.copy_(x_);  // in its place
    return its_dx;
  });
  const auto got = take_gradients();
  EXPECT_TRUE(at::equal(dx, want_dx));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(at::equal(got[i], want[i])) << i;
}

TEST_P(LinearGroupTest, TakesOverChangedAdapters) {
  LinearGroup lora = group();
  const at::Tensor dy = dy_.to(at::kBFloat16), y = at::empty({tokens(), lora.n()}, at::kBFloat16);
  const at::Tensor x_ext = at::empty({tokens(), lora.input_width()}, at::kBFloat16);
  x_ext.narrow(1, 0, kInputs).copy_(x_);
  lora.forward(x_ext, y, dropout());
  lora.backward(dy, x_ext, dropout(), LinearGroup::InputGradient::Wanted);  // makes what is made at the first use
  for (auto& p : pairs_) {
    p.a.mul_(-3.0);
    p.b.add_(0.2);
  }
  lora.refresh_adapters();
  const LinearGroup fresh = group();
  const at::Tensor y_fresh = at::empty_like(y), x_fresh = x_ext.clone();
  lora.forward(x_ext, y, dropout());
  fresh.forward(x_fresh, y_fresh, dropout());
  EXPECT_TRUE(at::equal(y, y_fresh));
  const auto wanted = LinearGroup::InputGradient::Wanted;
  EXPECT_TRUE(at::equal(lora.backward(dy, x_ext, dropout(), wanted), fresh.backward(dy, x_fresh, dropout(), wanted)));
  const auto unwanted = LinearGroup::InputGradient::Unwanted;
  EXPECT_FALSE(lora.backward(dy, x_ext, dropout(), unwanted).defined());
}

TEST_P(LinearGroupTest, DetachedIsTheBaseAlone) {
  LinearGroup base = group();
  base.detach();
  ASSERT_EQ(base.input_width(), kInputs);
  const at::Tensor x = x_.to(at::kBFloat16), y = at::empty({tokens(), base.n()}, at::kBFloat16);
  base.forward(x, y, nullptr);
  const at::Tensor dx = base.backward(dy_.to(at::kBFloat16), x, nullptr, LinearGroup::InputGradient::Wanted);
  const at::Tensor w = at::cat({weights_[0], weights_[1], weights_[2]});
  EXPECT_LT(relative(y, at::mm(x_, w.t())), 3e-3);
  EXPECT_LT(relative(dx, at::mm(dy_, w)), 3e-3);
}

// Few rows are split by columns, many by rows; an odd sum of ranks takes libtorch's road.
INSTANTIATE_TEST_SUITE_P(Cases, LinearGroupTest,
                         ::testing::Values(Case{1, 4, false}, Case{7, 4, false}, Case{150, 4, false},
                                           Case{150, 4, true}, Case{5, 16, true}, Case{150, 3, false}),
                         [](const auto& info) {
                           const Case& c = info.param;
                           return std::to_string(c.tokens) + "Tokens_Rank" + std::to_string(c.rank) +
                                  (c.dropout ? "_Dropout" : "");
                         });

TEST(GemmWeights, AreUsedWhereTheCpuHasTheInstructions) {
  EXPECT_EQ(GemmWeights::fit(Compute::BF16, at::kCPU, 4, 6, 8), kernels::cpu::simd().bf16);
  EXPECT_FALSE(GemmWeights::fit(Compute::F32, at::kCPU, 4, 6, 8));
  EXPECT_FALSE(GemmWeights::fit(Compute::BF16, at::kCPU, 4, 6, 3));
  EXPECT_FALSE(GemmWeights::fit(Compute::BF16, at::kCUDA, 4, 6, 8));
}

}  // namespace
}  // namespace slmi::ops::testing
