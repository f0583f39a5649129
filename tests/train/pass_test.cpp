// The backward pass against PEFT and against itself: every saving policy, packing and prefix sharing give the same
// gradients.
#include "slmi/train/pass.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../model/reference.h"
#include "../model/small_gguf.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/ops/optimizer.h"

namespace slmi::train {
namespace {

using model::testing::dataset;
using model::testing::golden;
using model::testing::golden_dir;
using model::testing::TestRow;
using model::testing::tokens;

/// The tiny tied model with PEFT's adapter attached, ready to train.
struct Fixture {
  std::shared_ptr<model::Llama> llama = model::testing::load(golden_dir() + "/tiny-tied");
  model::Lora lora = model::Lora::from_adapter(
      llama->config(), formats::PeftAdapter::open(golden_dir() + "/tiny-tied-adapter"), at::kCPU);
  Fixture() {
    lora.enable_training();
    llama->attach(lora);
  }
  /// Gradient of the summed loss over these rows, one micro-batch.
  at::Tensor gradient(const std::vector<TestRow>& rows, data::SharedPrefix sharing, model::SavePolicy save,
                      const ops::DropoutContext* dropout = nullptr) {
    lora.gradients().zero_();
    const auto set = dataset(rows);
    std::vector<int64_t> all;
    for (int64_t i = 0; i < set.size(); ++i) all.push_back(i);
    forward_backward(*llama, model::to_device(data::pack(set, all, sharing), at::kCPU), save, dropout);
    return lora.gradients().clone();
  }
};

double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

/// Six rows; the first four begin with the same 20 tokens.
std::vector<TestRow> some_rows() {
  std::vector<TestRow> rows;
  for (uint64_t i = 0; i < 6; ++i) {
    auto ids = tokens(20, 96, i < 4 ? 1 : 30 + i);
    const auto own = tokens(6 + static_cast<int64_t>(i), 96, 50 + i);
    ids.insert(ids.end(), own.begin(), own.end());
    rows.push_back({ids, 23, 20});
  }
  return rows;
}

TEST(Pass, TenStepsGiveTheLossesAndUpdatesOfPeft) {
  const Json& want = golden()["training"];
  for (const auto save : {model::SavePolicy::All, model::SavePolicy::Light, model::SavePolicy::None}) {
    Fixture f;
    const at::Tensor before = f.lora.values().clone();
    const ops::Moments moments(before, ops::MomentBits::F32);
    ops::StepNumbers numbers(at::kCPU);
    for (int64_t step = 0; step < 10; ++step) {
      std::vector<TestRow> rows;
      for (int64_t r = 0; r < 4; ++r)
        rows.push_back(
            {tokens(24, 96, want["first_seed"].get<uint64_t>() + static_cast<uint64_t>(4 * step + r)), 16, 0});
      const auto set = dataset(rows);
      const std::vector<int64_t> all = {0, 1, 2, 3};
      const auto batch = model::to_device(data::pack(set, all, data::SharedPrefix::On), at::kCPU);
      const double loss = forward_backward(*f.llama, batch, save, nullptr).item<double>() / 32;
      EXPECT_NEAR(loss, want["losses"][static_cast<size_t>(step)].get<double>(), 1e-5) << "step " << step;
      numbers.set(want["lr"], step + 1, 32, 1.0, {});
      ops::measure_gradient(f.lora.gradients(), numbers);
      ops::adamw_step(f.lora.values(), f.lora.gradients(), moments, {}, numbers);
      f.llama->refresh_adapters();
    }
    const auto after = model::Lora::from_adapter(
        f.llama->config(), formats::PeftAdapter::open(golden_dir() + "/tiny-tied-trained"), at::kCPU);
    for (const auto& s : f.lora.slots()) {
      for (const auto& [offset, count] : {std::pair{s.offset_a, s.rank * s.k}, std::pair{s.offset_b, s.rank * s.n}}) {
        const at::Tensor got = f.lora.values().narrow(0, offset, count) - before.narrow(0, offset, count);
        EXPECT_LT(distance(got, after.values().narrow(0, offset, count) - before.narrow(0, offset, count)), 1e-2)
            << "layer " << s.layer << " " << s.module;
      }
    }
  }
}

TEST(Pass, SavingPoliciesGiveTheSameGradient) {
  Fixture f;
  const auto all = f.gradient(some_rows(), data::SharedPrefix::On, model::SavePolicy::All);
  EXPECT_LT(distance(f.gradient(some_rows(), data::SharedPrefix::On, model::SavePolicy::Light), all), 1e-6);
  EXPECT_LT(distance(f.gradient(some_rows(), data::SharedPrefix::On, model::SavePolicy::None), all), 1e-6);
}

TEST(Pass, SharedPrefixOnAndOffGiveTheSameGradient) {
  Fixture f;
  const auto off = f.gradient(some_rows(), data::SharedPrefix::Off, model::SavePolicy::All);
  const auto on = f.gradient(some_rows(), data::SharedPrefix::On, model::SavePolicy::All);
  EXPECT_LT(distance(on, off), 1e-4);
  EXPECT_GT(off.norm().item<double>(), 0.0);
}

TEST(Pass, PackedRowsGiveTheSumOfSingleRows) {
  Fixture f;
  const auto packed = f.gradient(some_rows(), data::SharedPrefix::Off, model::SavePolicy::All);
  at::Tensor sum = at::zeros_like(packed);
  for (const auto& row : some_rows()) sum += f.gradient({row}, data::SharedPrefix::Off, model::SavePolicy::All);
  EXPECT_LT(distance(packed, sum), 1e-5);
}

TEST(Pass, DropoutIsTheSameWithAndWithoutSharing) {
  Fixture f;
  ops::DropoutContext dropout;
  dropout.probability = 0.3;
  dropout.seed = 4;
  dropout.step = 2;
  const auto on = f.gradient(some_rows(), data::SharedPrefix::On, model::SavePolicy::All, &dropout);
  const auto off = f.gradient(some_rows(), data::SharedPrefix::Off, model::SavePolicy::None, &dropout);
  EXPECT_LT(distance(on, off), 1e-4);
  dropout.step = 3;
  EXPECT_GT(distance(f.gradient(some_rows(), data::SharedPrefix::On, model::SavePolicy::All, &dropout), on), 1e-2);
}

TEST(Pass, BlocksOnAGpuGiveTheGradientOfTheCpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU here";
  using quant::WeightFormat;
  for (const auto format : {WeightFormat::Q4_0, WeightFormat::Q8_0, WeightFormat::Q4_K, WeightFormat::Q6_K}) {
    const model::testing::SmallGguf file(format);
    const auto gradient = [&](at::Device device, ops::Compute compute, ops::Residency residency) {
      model::LoadOptions load;
      load.base_format = model::BaseFormat::Stored;
      load.device = device;
      load.policy.compute = compute;
      load.residency = residency;
      const auto llama = model::testing::load(file.path(), load);
      model::Lora lora(llama->config(), {}, device, 3);
      at::manual_seed(5);
      lora.values().copy_(at::randn({lora.size()}) * 0.05);  // B too: at the start it is zero
      lora.enable_training();
      llama->attach(lora);
      const auto set = dataset(some_rows());
      const std::vector<int64_t> all = {0, 1, 2, 3, 4, 5};
      const auto batch = model::to_device(data::pack(set, all, data::SharedPrefix::On), device);
      forward_backward(*llama, batch, model::SavePolicy::All, nullptr);
      return lora.gradients().cpu();
    };
    const auto resident = ops::Residency::Resident, transient = ops::Residency::Transient;
    const at::Tensor want = gradient(at::kCPU, ops::Compute::F32, resident);
    EXPECT_LT(distance(gradient(at::kCUDA, ops::Compute::F32, transient), want), 1e-4) << quant::name(format);
    EXPECT_LT(distance(gradient(at::kCUDA, ops::Compute::F32, resident), want), 1e-4) << quant::name(format);
    // bf16 rounds what goes into each product and comes out of it.
    EXPECT_LT(distance(gradient(at::kCUDA, ops::Compute::BF16, transient), want), 0.05) << quant::name(format);
  }
}

TEST(Pass, GradientIsThatOfFiniteDifferences) {
  Fixture f;
  const auto rows = some_rows();
  const at::Tensor gradient = f.gradient(rows, data::SharedPrefix::On, model::SavePolicy::All);
  const auto set = dataset(rows);
  const std::vector<int64_t> all = {0, 1, 2, 3, 4, 5};
  const auto batch = model::to_device(data::pack(set, all, data::SharedPrefix::On), at::kCPU);
  // Along the gradient itself the slope is |g|: one direction checks every element at once.
  const at::Tensor direction = gradient / gradient.norm();
  const at::Tensor start = f.lora.values().clone();
  constexpr double kStep = 1e-2;
  double at_side[2];
  for (int side = 0; side < 2; ++side) {
    f.lora.values().copy_(start + direction * (side == 0 ? -kStep : kStep));
    f.llama->refresh_adapters();
    at_side[side] = model::forward_loss(*f.llama, batch);
  }
  const double slope = (at_side[1] - at_side[0]) / (2 * kStep);
  EXPECT_NEAR(slope / gradient.norm().item<double>(), 1.0, 5e-3);
}

}  // namespace
}  // namespace slmi::train
