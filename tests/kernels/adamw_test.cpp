// AdamW against torch.optim.AdamW's golden steps, equal bits at every level; the sum of squares against f64.
#include "slmi/kernels/cpu/adamw.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "slmi/base/random.h"
#include "slmi/kernels/dynamic_map.h"
#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

class AdamWTest : public LevelTest {};

TEST_P(AdamWTest, RepeatsTorch) {
  std::ifstream file(std::string(SLMI_SOURCE_DIR) + "/tests/kernels/golden/adamw.json");
  const auto golden = nlohmann::json::parse(file);
  auto param = golden["start"].get<std::vector<float>>();
  const auto n = static_cast<int64_t>(param.size());
  std::vector<float> m(param.size(), 0.0f), v(param.size(), 0.0f);
  AdamWStep step = {.learning_rate = golden["lr"],
                    .beta1 = golden["beta1"],
                    .beta2 = golden["beta2"],
                    .eps = golden["eps"],
                    .weight_decay = golden["weight_decay"],
                    .gradient_scale = 0.5f};
  for (size_t s = 0; s < golden["gradients"].size(); ++s) {
    auto grad = golden["gradients"][s].get<std::vector<float>>();
    for (float& g : grad) g *= 2.0f;  // undone by gradient_scale, exactly
    const auto t = static_cast<double>(s + 1);
    step.bias_correction1 = 1.0 - std::pow(step.beta1, t);
    step.bias_correction2 = 1.0 - std::pow(step.beta2, t);
    adamw_step(param.data(), grad.data(), m.data(), v.data(), step, 0, n, GetParam());
    const auto want = golden["values"][s].get<std::vector<float>>();
    // torch uses fma in some of these operations, depending on the machine: an ulp or two a step.
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(param[i], want[i], 4 * 0x1p-24 * std::fabs(want[i]) + 1e-9) << "step " << s << " element " << i;
    }
  }
  for (size_t i = 0; i < m.size(); ++i) {
    const float want_m = golden["m"][i], want_v = golden["v"][i];
    EXPECT_NEAR(m[i], want_m, 4 * 0x1p-24 * std::fabs(want_m) + 1e-9);
    EXPECT_NEAR(v[i], want_v, 4 * 0x1p-24 * std::fabs(want_v));
  }
}

/// Index of the nearest value, the lower of two.
uint8_t nearest(const DynamicMap& map, float x) {
  size_t best = 0;
  for (size_t i = 1; i < map.size(); ++i)
    if (std::fabs(static_cast<double>(map[i]) - static_cast<double>(x)) <
        std::fabs(static_cast<double>(map[best]) - static_cast<double>(x)))
      best = i;
  return static_cast<uint8_t>(best);
}

TEST(AdamW8, IsAStepInF32BetweenCodesThatAreNearest) {
  for (const int64_t n : {1, 255, 256, 257, 1000}) {
    const auto size = static_cast<size_t>(n), blocks = static_cast<size_t>(num_moment_blocks(n));
    auto param = random_rows<float>(1, n, n, 75), grad = random_rows<float>(1, n, n, 76);
    Guarded<uint8_t> m(n), v(n);
    Guarded<float> m_absmax(num_moment_blocks(n)), v_absmax(num_moment_blocks(n));
    for (int64_t i = 0; i < n; ++i) {
      m[i] = static_cast<uint8_t>(37 * i);
      v[i] = static_cast<uint8_t>(91 * i);
      if (i % 7 == 0) grad[i] = 0.0f;
    }
    for (size_t b = 0; b < blocks; ++b) {
      m_absmax[static_cast<int64_t>(b)] = 0.1f;
      v_absmax[static_cast<int64_t>(b)] = 1e-3f;
    }
    AdamWStep step = {.learning_rate = 1e-3,
                      .weight_decay = 0.01,
                      .bias_correction1 = 0.3,
                      .bias_correction2 = 0.01,
                      .gradient_scale = 0.37f,
                      .gradient_after = GradientAfter::Clear};
    std::vector<float> p(size), g(size), first(size), second(size);
    for (size_t i = 0; i < size; ++i) {
      const auto at = static_cast<int64_t>(i);
      p[i] = param[at];
      g[i] = grad[at];
      first[i] = dynamic_map()[m[at]] * 0.1f;
      second[i] = unsigned_dynamic_map()[v[at]] * 1e-3f;
    }
    adamw_step(p.data(), g.data(), first.data(), second.data(), step, 0, n, SimdLevel::Scalar);
    adamw8_step(param.data(), grad.data(), {m.data(), v.data(), m_absmax.data(), v_absmax.data()}, n, step, 0,
                num_moment_blocks(n));
    ASSERT_TRUE(param.guards_intact() && grad.guards_intact() && m.guards_intact() && v.guards_intact() &&
                m_absmax.guards_intact() && v_absmax.guards_intact());
    for (size_t b = 0; b < blocks; ++b) {
      const size_t begin = b * kMomentBlock, end = std::min(size, begin + kMomentBlock);
      float greatest = 0.0f, greatest_square = 0.0f;
      for (size_t i = begin; i < end; ++i) {
        greatest = std::max(greatest, std::fabs(first[i]));
        greatest_square = std::max(greatest_square, second[i]);
      }
      ASSERT_EQ(m_absmax[static_cast<int64_t>(b)], greatest);
      ASSERT_EQ(v_absmax[static_cast<int64_t>(b)], greatest_square);
      for (size_t i = begin; i < end; ++i) {
        const auto at = static_cast<int64_t>(i);
        ASSERT_EQ(param[at], p[i]) << i;
        ASSERT_EQ(grad[at], 0.0f) << i;
        ASSERT_EQ(m[at], nearest(dynamic_map(), first[i] / greatest)) << i;
        ASSERT_EQ(v[at], nearest(unsigned_dynamic_map(), second[i] / greatest_square)) << i;
      }
    }
  }
}

TEST(AdamW8, ASmallSecondMomentIsNeverZero) {
  // Beside a gradient of 1, one of 1e-6 has a square of 1e-12: less than half of the map's least value, 5.5e-7.
  float param[2] = {0, 0}, grad[2] = {1.0f, 1e-6f}, m_absmax = 0, v_absmax = 0;
  uint8_t m[2] = {}, v[2] = {};
  const AdamWStep step = {.learning_rate = 1e-3, .bias_correction1 = 0.1, .bias_correction2 = 0.001};
  adamw8_step(param, grad, {m, v, &m_absmax, &v_absmax}, 2, step, 0, 1);
  EXPECT_EQ(v[0], 255);
  EXPECT_EQ(v[1], 1);
  // A gradient of zero leaves zero, whose code is that of the map's 0.
  float none[2] = {0, 0};
  m_absmax = v_absmax = 0;
  adamw8_step(param, none, {m, v, &m_absmax, &v_absmax}, 2, step, 0, 1);
  EXPECT_EQ(v[0], 0);
  EXPECT_EQ(dynamic_map()[m[0]], 0.0f);
  EXPECT_TRUE(std::isfinite(param[0]) && std::isfinite(param[1]));
}

TEST(AdamW8, FollowsF32OverManySteps) {
  constexpr int64_t kCount = 4096, kSteps = 200;
  std::vector<float> want(kCount, 0.0f), wm(kCount, 0.0f), wv(kCount, 0.0f), got(kCount, 0.0f);
  std::vector<uint8_t> m(kCount), v(kCount);
  std::vector<float> m_absmax(num_moment_blocks(kCount)), v_absmax(m_absmax.size());
  Random random(77);
  for (int64_t t = 1; t <= kSteps; ++t) {
    AdamWStep step = {.learning_rate = 1e-3};
    step.bias_correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(t));
    step.bias_correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(t));
    std::vector<float> grad(kCount);
    for (size_t i = 0; i < grad.size(); ++i)  // magnitudes over two decades, a mean that moves the value
      grad[i] = static_cast<float>(std::pow(10.0, -2.0 * static_cast<double>(i % 97) / 97.0) * (0.5 + random.normal()));
    adamw_step(want.data(), grad.data(), wm.data(), wv.data(), step, 0, kCount, SimdLevel::Scalar);
    adamw8_step(got.data(), grad.data(), {m.data(), v.data(), m_absmax.data(), v_absmax.data()}, kCount, step, 0,
                num_moment_blocks(kCount));
  }
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - static_cast<double>(want[i]), 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  EXPECT_LT(std::sqrt(difference / norm), 0.1);  // 0.061; at a hundredth of a block's greatest, codes are 5 % apart
}

TEST_P(AdamWTest, EqualsTheReferenceBitForBitAndClearsOnRequest) {
  for (const int64_t n : test_widths()) {
    const auto param = random_rows<float>(1, n, n, 71), grad = random_rows<float>(1, n, n, 72);
    const auto m = random_rows<float>(1, n, n, 73);
    auto v = random_rows<float>(1, n, n, 74);
    for (int64_t i = 0; i < n; ++i) v[i] = 1e-4f * std::fabs(v[i]);  // so small that the last bit of g * g shows
    AdamWStep step = {.learning_rate = 1e-3,
                      .weight_decay = 0.01,
                      .bias_correction1 = 0.3,
                      .bias_correction2 = 0.01,
                      .gradient_scale = 0.37f};
    const auto run = [&](SimdLevel level) {
      auto p = param, g = grad, first = m, second = v;
      adamw_step(p.data(), g.data(), first.data(), second.data(), step, 0, n / 2, level);
      adamw_step(p.data(), g.data(), first.data(), second.data(), step, n / 2, n, level);
      EXPECT_TRUE(p.guards_intact() && g.guards_intact() && first.guards_intact() && second.guards_intact());
      return std::vector{p, g, first, second};
    };
    const auto got = run(GetParam()), want = run(SimdLevel::Scalar);
    for (size_t i = 0; i < want.size(); ++i) ASSERT_TRUE(equal_bits(got[i], want[i])) << "n " << n << " buffer " << i;
    ASSERT_TRUE(equal_bits(got[1], grad));
    step.gradient_after = GradientAfter::Clear;
    const auto cleared = run(GetParam());
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(cleared[1][i], 0.0f);
    ASSERT_TRUE(equal_bits(cleared[0], want[0]));
  }
}

TEST_P(AdamWTest, SumOfSquares) {
  for (const int64_t n : {int64_t{1}, int64_t{15}, int64_t{16}, int64_t{17}, int64_t{1000}, kSumBlock - 1, kSumBlock,
                          kSumBlock + 1, 3 * kSumBlock + 5}) {
    const auto x = random_rows<float>(1, n, n, 75);
    const int64_t blocks = num_sum_blocks(n);
    std::vector<double> got(static_cast<size_t>(blocks)), want(got.size());
    sum_of_squares(x.data(), n, got.data(), 0, blocks / 2, GetParam());
    sum_of_squares(x.data(), n, got.data(), blocks / 2, blocks, GetParam());
    sum_of_squares(x.data(), n, want.data(), 0, blocks, SimdLevel::Scalar);
    EXPECT_EQ(got, want) << n;
    double sum = 0.0, plain = 0.0;
    for (const double b : got) sum += b;
    for (int64_t i = 0; i < n; ++i) plain += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    EXPECT_NEAR(sum / plain, 1.0, 1e-11) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, AdamWTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
