// The search for a group's scale: all levels give one answer, near the best that any scale could give.
#include "slmi/kernels/cpu/group_search.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "slmi/base/random.h"
#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

constexpr int kLevelsOfCodes = 8;

std::vector<float> normal_values(uint64_t seed, int64_t count) {
  Random random(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = static_cast<float>(0.05 * random.normal());
  return out;
}

std::vector<float> weights_of(uint64_t seed, int64_t size) {
  Random random(seed);
  std::vector<float> out(static_cast<size_t>(size));
  for (float& w : out) w = static_cast<float>(0.05 + 0.95 * random.uniform());
  return out;
}

/// Of x rounded to a scale's codes, in f64.
double error_of(const float* x, const std::vector<float>& weight, double scale) {
  double error = 0;
  for (size_t i = 0; i < weight.size(); ++i) {
    const double code = scale == 0 ? 0 : std::clamp(std::nearbyint(x[i] / scale), -8.0, 7.0);
    error += weight[i] * (x[i] - scale * code) * (x[i] - scale * code);
  }
  return error;
}

std::vector<float> search(const std::vector<float>& x, int64_t count, int64_t stride, const std::vector<float>& weight,
                          SimdLevel level) {
  const auto size = static_cast<int64_t>(weight.size());
  Guarded<float> scale(count), scratch(group_search_scratch(size));
  group_search({x.data(), stride, count, size, weight.data()}, kLevelsOfCodes, scale.data(), scratch.data(), level);
  EXPECT_TRUE(scale.guards_intact() && scratch.guards_intact());
  return {scale.data(), scale.data() + count};
}

class GroupSearchTest : public LevelTest {};

TEST_P(GroupSearchTest, EveryLevelHasTheReferencesBits) {
  for (const int64_t size : {1, 31, 32, 33, 64, 128, 1536}) {
    for (const int64_t count : {1, 7, 8, 9, 15, 16, 17, 40}) {
      const int64_t stride = size + 3;
      const auto x = normal_values(static_cast<uint64_t>(31 * size + count), count * stride);
      const auto weight = weights_of(5, size);
      EXPECT_EQ(search(x, count, stride, weight, GetParam()), search(x, count, stride, weight, SimdLevel::Scalar))
          << size << " x " << count;
    }
  }
}

/// Against every scale of a grid twenty times as fine, over more than its range.
TEST_P(GroupSearchTest, NoScaleIsMuchBetter) {
  const int64_t count = 20, size = 64;
  const auto x = normal_values(3, count * size);
  const auto weight = weights_of(4, size);
  const auto scales = search(x, count, size, weight, GetParam());
  double found = 0, best_of_all = 0, by_largest = 0;
  for (int64_t row = 0; row < count; ++row) {
    const float* w = x.data() + row * size;
    float largest = 0;
    for (int64_t i = 0; i < size; ++i) largest = std::max(largest, std::fabs(w[i]));
    double best = 1e300;
    for (int sign = -1; sign <= 1; sign += 2)
      for (int i = 0; i < 1300; ++i) best = std::min(best, error_of(w, weight, sign * largest / (4.0 + 0.005 * i)));
    found += error_of(w, weight, scales[static_cast<size_t>(row)]);
    best_of_all += best;
    by_largest += error_of(w, weight, largest * 2 / 15);
  }
  EXPECT_LT(found, 1.02 * best_of_all);
  EXPECT_LT(found, 0.85 * by_largest);
}

TEST_P(GroupSearchTest, ZerosHaveNoScaleAndOneWeightIsExact) {
  std::vector<float> x(3 * 32, 0.0f);
  x[32 + 5] = 0.3f;
  x[64 + 5] = -1e-12f;
  const auto scales = search(x, 3, 32, weights_of(1, 32), GetParam());
  EXPECT_EQ(scales[0], 0.0f);
  EXPECT_LT(std::fabs(scales[1] * std::nearbyint(0.3f / scales[1]) - 0.3f), 1e-6f);
  EXPECT_NE(scales[2], 0.0f);
}

/// Two kinds of weights that no scale holds both: what costs more is held better.
TEST_P(GroupSearchTest, WeightsDecide) {
  std::vector<float> x(32), fives(32, 0.01f), sevens(32, 0.01f);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = i % 2 == 0 ? 0.5f : 0.71f;
    (i % 2 == 0 ? fives : sevens)[i] = 1.0f;
  }
  x[0] = 0.8f;
  const auto error_at = [&](float value, float scale) {
    return std::fabs(scale * std::nearbyint(value / scale) - value);
  };
  const float a = search(x, 1, 32, fives, GetParam())[0], b = search(x, 1, 32, sevens, GetParam())[0];
  EXPECT_LT(error_at(0.5f, a), 0.5f * error_at(0.5f, b));
  EXPECT_LT(error_at(0.71f, b), 0.5f * error_at(0.71f, a));
}

INSTANTIATE_TEST_SUITE_P(Levels, GroupSearchTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
