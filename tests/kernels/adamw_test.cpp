// AdamW against torch.optim.AdamW's golden steps, equal bits at every level; the sum of squares against f64.
#include "slmi/kernels/cpu/adamw.h"

#include <fstream>

#include <nlohmann/json.hpp>

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
