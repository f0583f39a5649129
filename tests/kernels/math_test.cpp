// The vector exp and sigmoid against f64.
#include "levels.h"
#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

double ulps(float got, double want) {
  const double magnitude = std::max(std::fabs(want), 0x1p-126);
  const double ulp = std::exp2(std::floor(std::log2(magnitude)) - 23);
  return std::fabs(static_cast<double>(got) - want) / ulp;
}

template <SimdLevel kLevel>
void check_exp() {
  if (kLevel > detect_simd().level) GTEST_SKIP() << "this CPU lacks " << level_name(kLevel);
  std::vector<float> x, y;
  for (float a = -103.5f; a < 88.7f; a += 0.000511f) x.push_back(a);
  for (float a = -1e-3f; a < 1e-3f; a += 1.7e-8f) x.push_back(a);
  y.resize(x.size());
  detail::Math<kLevel>::exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, ulps(y[i], std::exp(static_cast<double>(x[i]))));
  EXPECT_LE(worst, 2.0);

  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> special = {0.0f, -0.0f, inf, -inf, 89.0f, 1e30f, -104.5f, -1e30f, NAN}, got(special.size());
  detail::Math<kLevel>::exp(special.data(), got.data(), static_cast<int64_t>(special.size()));
  const std::vector<float> want = {1.0f, 1.0f, inf, 0.0f, inf, inf, 0.0f, 0.0f};
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i], want[i]) << special[i];
  EXPECT_TRUE(std::isnan(got.back()));
}

TEST(Math, ExpIsWithinTwoUlpAvx2) {
  check_exp<SimdLevel::Avx2>();
}
TEST(Math, ExpIsWithinTwoUlpAvx512) {
  check_exp<SimdLevel::Avx512>();
}

}  // namespace
}  // namespace slmi::kernels::cpu
