// AdamW, the gradient's norm and the scale of f16 gradients, against the CPU's.
#include "slmi/kernels/cuda/adamw.h"

#include <gtest/gtest.h>

#include <limits>

#include "device_rows.h"
#include "slmi/kernels/cpu/adamw.h"
#include "slmi/kernels/dynamic_map.h"

namespace slmi::kernels::cuda {
namespace {

constexpr auto kScalar = cpu::SimdLevel::Scalar;

TEST(CudaAdamW, EqualsTheCpuBitForBitAndClears) {
  SLMI_REQUIRE_CUDA();
  for (const int64_t n : {1, 3, 4, 255, 1024, 1027, 100'000}) {
    auto param = Rows<float>::random(1, n, n, 11), grad = Rows<float>::random(1, n, n, 12),
         m = Rows<float>::random(1, n, n, 13, 0.1), v = Rows<float>::random(1, n, n, 14, 0.0);
    cpu::AdamWStep step;
    step.learning_rate = 2e-3f;
    step.beta2 = 0.95;
    step.weight_decay = 0.01;
    step.bias_correction1 = static_cast<float>(1 - std::pow(0.9, 7));
    step.bias_correction2 = static_cast<float>(1 - std::pow(0.95, 7));
    step.gradient_scale = 0.37f;
    step.gradient_after = cpu::GradientAfter::Clear;
    auto p = param.values(), g = grad.values(), mm = m.values(), vv = v.values();
    cpu::adamw_step(p.data(), g.data(), mm.data(), vv.data(), step, 0, n, kScalar);
    const DeviceArray<float> numbers(
        std::vector<float>{static_cast<float>(step.learning_rate), static_cast<float>(step.bias_correction1),
                           static_cast<float>(step.bias_correction2), step.gradient_scale});
    const float* d = numbers.data();
    adamw_step(param.data(), grad.data(), m.data(), v.data(), n, {step.beta1, step.beta2, step.eps, step.weight_decay},
               {d, d + 1, d + 2, d + 3}, nullptr);
    ASSERT_EQ(param.values(), p) << n;
    ASSERT_EQ(m.values(), mm) << n;
    ASSERT_EQ(v.values(), vv) << n;
    ASSERT_EQ(grad.values(), std::vector<float>(static_cast<size_t>(n), 0.0f));
    ASSERT_TRUE(param.only_rows_written() && grad.only_rows_written() && m.only_rows_written() &&
                v.only_rows_written());
  }
}

TEST(CudaAdamW8, EqualsTheCpuBitForBit) {
  SLMI_REQUIRE_CUDA();
  const auto device = [](const auto& table) {
    return DeviceArray<float>(std::vector<float>(table.begin(), table.end()));
  };
  const auto m_map = device(dynamic_map()), v_map = device(unsigned_dynamic_map());
  const auto m_borders = device(borders_of(dynamic_map())), v_borders = device(borders_of(unsigned_dynamic_map()));
  const MomentMaps maps = {m_map.data(), v_map.data(), m_borders.data(), v_borders.data()};
  for (const int64_t n : {1, 255, 256, 257, 1027, 400'000}) {
    const int64_t blocks = num_moment_blocks(n);
    auto param = Rows<float>::random(1, n, n, 17);
    auto p = param.values();
    std::vector<uint8_t> m(p.size()), v(p.size());
    std::vector<float> m_absmax(static_cast<size_t>(blocks)), v_absmax(m_absmax.size());
    const DeviceArray<uint8_t> m_codes(std::vector<uint8_t>(p.size() + 16, 0x5a)), v_codes(m_codes.host());
    cuda_check(cudaMemset(m_codes.data(), 0, p.size()), "clear");
    cuda_check(cudaMemset(v_codes.data(), 0, p.size()), "clear");
    auto got_m_absmax = Rows<float>::random(1, blocks, blocks, 18, 0.0),
         got_v_absmax = Rows<float>::random(1, blocks, blocks, 18, 0.0);
    for (int64_t t = 1; t <= 3; ++t) {
      auto grad = Rows<float>::random(1, n, n, 20 + static_cast<uint64_t>(t));
      auto g = grad.values();
      cpu::AdamWStep step = {.learning_rate = 2e-3f,
                             .weight_decay = 0.01,
                             .gradient_scale = 0.37f,
                             .gradient_after = cpu::GradientAfter::Clear};
      step.bias_correction1 = static_cast<float>(1 - std::pow(step.beta1, static_cast<double>(t)));
      step.bias_correction2 = static_cast<float>(1 - std::pow(step.beta2, static_cast<double>(t)));
      cpu::adamw8_step(p.data(), g.data(), {m.data(), v.data(), m_absmax.data(), v_absmax.data()}, n, step, 0, blocks);
      const DeviceArray<float> numbers(
          std::vector<float>{static_cast<float>(step.learning_rate), static_cast<float>(step.bias_correction1),
                             static_cast<float>(step.bias_correction2), step.gradient_scale});
      const float* d = numbers.data();
      adamw8_step(param.data(), grad.data(), {m_codes.data(), v_codes.data(), got_m_absmax.data(), got_v_absmax.data()},
                  maps, n, {step.beta1, step.beta2, step.eps, step.weight_decay}, {d, d + 1, d + 2, d + 3}, nullptr);
      ASSERT_TRUE(equal_bits(param.values(), p)) << n;
      ASSERT_TRUE(equal_bits(got_m_absmax.values(), m_absmax)) << n;
      ASSERT_TRUE(equal_bits(got_v_absmax.values(), v_absmax)) << n;
      ASSERT_EQ(grad.values(), std::vector<float>(p.size(), 0.0f));
      auto want_m = m, want_v = v;
      want_m.resize(m.size() + 16, 0x5a);  // guards behind
      want_v.resize(v.size() + 16, 0x5a);
      ASSERT_EQ(m_codes.host(), want_m) << n;
      ASSERT_EQ(v_codes.host(), want_v) << n;
      ASSERT_TRUE(param.only_rows_written() && grad.only_rows_written() && got_m_absmax.only_rows_written() &&
                  got_v_absmax.only_rows_written());
    }
  }
}

TEST(CudaGradientNorm, IsTheMeansAndClips) {
  SLMI_REQUIRE_CUDA();
  for (const int64_t n : {1, 255, 16384, 16385, 300'000}) {
    const auto gradients = Rows<float>::random(1, n, n, 15);
    double sum = 0;
    for (const float g : gradients.values()) sum += static_cast<double>(g) * static_cast<double>(g);
    const DeviceArray<double> scratch(static_cast<size_t>(gradient_norm_scratch(n)));
    for (const float max_norm : {0.0f, 1e-3f, 1e6f}) {
      const DeviceArray<float> in(std::vector<float>{0.25f, max_norm});
      Rows<float> out(1, 2, 2);
      gradient_norm(gradients.data(), n, scratch.data(), in.data(), in.data() + 1, nullptr, out.data(), out.data() + 1,
                    nullptr);
      ASSERT_TRUE(out.only_rows_written());
      const double norm = std::sqrt(sum) * 0.25;
      EXPECT_NEAR(out.values()[0], norm, 1e-6 * norm) << n;
      const double clip = max_norm > 0 ? std::min(1.0, static_cast<double>(max_norm) / (norm + 1e-6)) : 1.0;
      EXPECT_NEAR(out.values()[1], 0.25 * clip, 1e-6 * 0.25 * clip) << n;
    }
  }
}

/// Gradients of `n` values, one of them `planted` (at the end; nothing where it is 0).
std::vector<float> gradients_with(int64_t n, float planted) {
  std::vector<float> out(static_cast<size_t>(n));
  Random random(16);
  for (float& g : out) g = static_cast<float>(random.normal());
  if (planted != 0.0f) out.back() = planted;
  return out;
}

TEST(CudaLossScale, IsUndoneInNormAndFactorAndFollowsTheCpus) {
  SLMI_REQUIRE_CUDA();
  const float inf = INFINITY, nan = NAN, largest = std::numeric_limits<float>::max();
  for (const int64_t n : {1, 16385}) {
    LossScale want = {.scale = 8192.0f, .good_steps = 1998.0f};
    const DeviceArray<LossScale> state(std::vector<LossScale>{want});
    const DeviceArray<double> scratch(static_cast<size_t>(gradient_norm_scratch(n)));
    const DeviceArray<float> in(std::vector<float>{0.25f, 1e-3f});
    // Grows after the second, is halved three times, and the largest f32, whose square is none, is no overflow.
    for (const float planted : {0.0f, 0.0f, inf, nan, -inf, largest, 0.0f}) {
      const auto host = gradients_with(n, planted);
      const DeviceArray<float> gradients(host);
      Rows<float> out(1, 2, 2);
      gradient_norm(gradients.data(), n, scratch.data(), in.data(), in.data() + 1, state.data(), out.data(),
                    out.data() + 1, nullptr);
      double sum = 0;
      for (const float g : host) sum += static_cast<double>(g) * static_cast<double>(g);
      const double inverse = 0.25 / static_cast<double>(want.scale), norm = std::sqrt(sum) * inverse;
      const bool finite = std::isfinite(planted);
      want = cpu::next_loss_scale(want, finite);
      const LossScale got = state.host()[0];
      ASSERT_EQ(got.scale, want.scale) << planted;
      ASSERT_EQ(got.good_steps, want.good_steps) << planted;
      ASSERT_EQ(got.skip, finite ? 0.0f : 1.0f) << planted;
      ASSERT_EQ(got.skipped_steps, want.skipped_steps) << planted;
      if (!finite) {
        EXPECT_FALSE(std::isfinite(out.values()[0]));
        continue;
      }
      EXPECT_NEAR(out.values()[0], norm, 1e-6 * norm) << planted;
      const double factor = inverse * std::min(1.0, 1e-3 / (norm + 1e-6));
      EXPECT_NEAR(out.values()[1], factor, 1e-5 * factor + 0x1p-149) << planted;  // subnormal after the largest
    }
    EXPECT_EQ(want.scale, 2048.0f) << "doubled once, halved three times";
  }
}

TEST(CudaLossScale, ASkippedStepOnlyClearsTheGradient) {
  SLMI_REQUIRE_CUDA();
  const DeviceArray<float> numbers(std::vector<float>{1e-3f, 0.1f, 0.05f, 0.5f});
  const float* d = numbers.data();
  for (const int64_t n : {1, 4, 1027}) {
    for (const float skip : {1.0f, 0.0f}) {
      auto param = Rows<float>::random(1, n, n, 11), grad = Rows<float>::random(1, n, n, 12),
           m = Rows<float>::random(1, n, n, 13, 0.1), v = Rows<float>::random(1, n, n, 14, 0.0);
      const auto p = param.values(), mm = m.values(), vv = v.values();
      const DeviceArray<LossScale> state(std::vector<LossScale>{{.skip = skip}});
      adamw_step(param.data(), grad.data(), m.data(), v.data(), n, {}, {d, d + 1, d + 2, d + 3, state.data()}, nullptr);
      EXPECT_EQ(grad.values(), std::vector<float>(static_cast<size_t>(n), 0.0f));
      EXPECT_EQ(param.values() == p, skip != 0.0f) << n;
      EXPECT_EQ(m.values() == mm, skip != 0.0f) << n;
      EXPECT_EQ(v.values() == vv, skip != 0.0f) << n;
      EXPECT_TRUE(param.only_rows_written() && grad.only_rows_written() && m.only_rows_written() &&
                  v.only_rows_written());
    }
  }
}

}  // namespace
}  // namespace slmi::kernels::cuda
