// The scale of f16 gradients: as libtorch's own update of it, and what a step does with a gradient that overflowed.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "slmi/ops/cross_entropy.h"
#include "slmi/ops/optimizer.h"

namespace slmi::ops::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

class LossScaling : public ::testing::TestWithParam<at::DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == at::kCUDA && !at::hasCUDA()) GTEST_SKIP() << "no GPU here";
    at::manual_seed(11);
  }
  at::TensorOptions f32() const { return at::TensorOptions().dtype(at::kFloat).device(GetParam()); }
  /// 5,000 gradients, the last of them `planted`.
  at::Tensor gradients(float planted) const {
    const at::Tensor out = at::randn({5000});
    out[4999] = planted;
    return out.to(GetParam());
  }
};

TEST_P(LossScaling, FollowsLibtorchsGradScaler) {
  // Grows at the second step, is halved by each overflow, and counts from 0 again after both.
  std::vector<float> planted = {1, 1, kInfinity, 1, 1, kNan, -kInfinity, 1};
  StepNumbers numbers(GetParam());
  numbers.set_loss_scale({.scale = 4096.0f, .good_steps = 1998.0f});
  numbers.set(1e-3, 1, 32, 1.0, {});
  const at::Tensor scale = at::full({1}, 4096.0f), good_steps = at::full({1}, 1998, at::kInt);
  at::Tensor want_scale = scale.clone(), want_good_steps = good_steps.clone();
  float skipped = 0;
  for (int64_t i = 0; i < 4 + 2000; ++i) {
    const float value = i < static_cast<int64_t>(planted.size()) ? planted[static_cast<size_t>(i)] : 1.0f;
    const float overflow = std::isfinite(value) ? 0.0f : 1.0f;
    skipped += overflow;
    at::_amp_update_scale_(want_scale, want_good_steps, at::full({1}, overflow), 2.0, 0.5, 2000);
    const at::Tensor few = at::full({3}, value, f32());
    measure_gradient(few, numbers);
    const LossScale got = numbers.get_loss_scale();
    ASSERT_EQ(got.scale, want_scale.item<float>()) << "step " << i;
    ASSERT_EQ(got.good_steps, static_cast<float>(want_good_steps.item<int>())) << "step " << i;
    ASSERT_EQ(got.skip, overflow) << "step " << i;
    ASSERT_EQ(got.skipped_steps, skipped) << "step " << i;
  }
  EXPECT_EQ(want_scale.item<float>(), 1024.0f);
  // Beyond f32 it does not grow.
  numbers.set_loss_scale({.scale = 0x1p127f, .good_steps = 1999.0f});
  measure_gradient(gradients(1.0f), numbers);
  EXPECT_EQ(numbers.get_loss_scale().scale, 0x1p127f);
  EXPECT_EQ(numbers.get_loss_scale().good_steps, 0.0f);
}

TEST_P(LossScaling, AStepWithScaledGradientsIsTheStepWithout) {
  const at::Tensor gradient = gradients(1.0f), start = at::randn({5000}).to(GetParam());
  const auto run = [&](bool scaled, MomentBits bits) {
    const at::Tensor values = start.clone();
    const Moments moments(values, bits);
    StepNumbers numbers(GetParam());
    if (scaled) numbers.set_loss_scale({.scale = 4096.0f});
    for (int64_t step = 1; step <= 2; ++step) {
      numbers.set(1e-2, step, 32, 1.0, {});
      const at::Tensor g = scaled ? gradient * numbers.loss_factor() : gradient.clone();
      measure_gradient(g, numbers);
      adamw_step(values, g, moments, {}, numbers);
      EXPECT_EQ(g.abs().sum().item<float>(), 0.0f);
    }
    return at::cat(
        {values.cpu(), moments.m.cpu(), moments.v.cpu(), numbers.values.narrow(0, StepNumbers::GradientNorm, 1).cpu()});
  };
  for (const MomentBits bits : {MomentBits::F32, MomentBits::Eight})
    EXPECT_TRUE(at::equal(run(true, bits), run(false, bits))) << "powers of two change no bit";
}

TEST_P(LossScaling, AnOverflowSkipsTheStepAndClearsTheGradient) {
  for (const MomentBits bits : {MomentBits::F32, MomentBits::Eight}) {
    const at::Tensor start = at::randn({5000}).to(GetParam()), values = start.clone();
    const Moments moments(values, bits);
    moments.m.fill_(1);
    moments.v.fill_(1);
    const at::Tensor before = at::cat({moments.m, moments.v});
    StepNumbers numbers(GetParam());
    numbers.set_loss_scale({.scale = 4096.0f});
    AdamWOptions options;
    options.weight_decay = 0.1;
    numbers.set(1e-2, 1, 32, 1.0, options);
    for (const float planted : {kInfinity, kNan}) {
      const at::Tensor g = gradients(planted);
      measure_gradient(g, numbers);
      adamw_step(values, g, moments, options, numbers);
      EXPECT_TRUE(at::equal(values, start));
      EXPECT_TRUE(at::equal(at::cat({moments.m, moments.v}), before));
      EXPECT_EQ(g.abs().sum().item<float>(), 0.0f);
    }
    EXPECT_EQ(numbers.get_loss_scale().scale, 1024.0f);
    const at::Tensor g = gradients(1.0f);
    measure_gradient(g, numbers);
    adamw_step(values, g, moments, options, numbers);
    EXPECT_FALSE(at::equal(values, start)) << "the next one is taken";
  }
}

TEST_P(LossScaling, OfCrossEntropyIsOnTheGradientAlone) {
  const at::Tensor logits = (3 * at::randn({6, 1000})).to(GetParam(), at::kHalf), plain = logits.to(at::kFloat).cpu();
  const at::Tensor targets = at::tensor({0, 999, 5, 5, 17, 400}, at::kInt), loss = at::empty({6}, f32());
  cross_entropy(logits, targets.to(GetParam()), CrossEntropyMode::LossAndGradient, loss, at::full({1}, 1024.0f, f32()));
  const at::Tensor log_probabilities = at::log_softmax(plain.to(at::kDouble), 1);
  const at::Tensor index = targets.to(at::kLong).unsqueeze(1);
  const at::Tensor want_loss = -log_probabilities.gather(1, index).squeeze(1);
  at::Tensor want = log_probabilities.exp();
  want.scatter_add_(1, index, at::full_like(index, -1.0, want.options()));
  want *= 1024.0;
  EXPECT_LT((loss.cpu().to(at::kDouble) - want_loss).abs().max().item<double>(), 1e-5);
  // One rounding to f16, and exp in f32.
  const at::Tensor bound = want.abs() * (0x1p-11 + 2e-5) + 0x1p-25;
  EXPECT_TRUE(((logits.cpu().to(at::kDouble) - want).abs() <= bound).all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Devices, LossScaling, ::testing::Values(at::kCPU, at::kCUDA),
                         [](const auto& info) { return info.param == at::kCPU ? "Cpu" : "Gpu"; });

}  // namespace
}  // namespace slmi::ops::testing
