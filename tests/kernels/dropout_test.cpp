// Dropout: the mask's definition, equal bits at every level, and its statistics.
#include "slmi/kernels/cpu/dropout.h"

#include <set>

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

const std::vector<uint64_t> kRowKeys = {0, 5, 0x123456789abcdef0ull, ~0ull};
const std::vector<int32_t> kPositions = {0, 77, 1000, 8191};
constexpr int64_t kRows = 4;

class DropoutTest : public LevelTest {
 protected:
  template <class T>
  void check(int64_t width, double probability) {
    const int64_t stride = width + 3;
    const DropoutKey key = {.seed = 42, .step = 17, .site = 5, .probability = probability};
    const auto x = random_rows<T>(kRows, width, stride, 61);
    Guarded<T> out(kRows * stride);
    apply_dropout(x.data(), stride, key, kRowKeys.data(), kPositions.data(), width, out.data(), stride, 0, 2,
                  GetParam());
    apply_dropout(x.data(), stride, key, kRowKeys.data(), kPositions.data(), width, out.data(), stride, 2, kRows,
                  GetParam());
    ASSERT_TRUE(only_rows_written(out, width, stride));
    // The definition, from base/random.h alone.
    uint64_t state = key.seed;
    state = splitmix64(state) ^ static_cast<uint64_t>(key.step);
    state = splitmix64(state) ^ key.site;
    const uint64_t mixed = splitmix64(state);
    const auto threshold = static_cast<uint32_t>(std::lround(probability * 65536.0));
    const auto scale = static_cast<float>(1.0 / (1.0 - threshold / 65536.0));
    for (int64_t t = 0; t < kRows; ++t) {
      const auto row = static_cast<size_t>(t);
      for (int64_t c = 0; c < width; ++c) {
        const auto words =
            philox4x32({static_cast<uint32_t>(c / 8), static_cast<uint32_t>(kPositions[row]),
                        static_cast<uint32_t>(kRowKeys[row]), static_cast<uint32_t>(kRowKeys[row] >> 32)},
                       {static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)});
        const uint32_t draw = (words[static_cast<size_t>(c % 8 / 2)] >> (c % 2 * 16)) & 0xffffu;
        const float want = draw >= threshold ? to_float(from_float<T>(to_float(x[t * stride + c]) * scale)) : 0.0f;
        ASSERT_EQ(to_float(out[t * stride + c]), want) << "width " << width << " row " << t << " channel " << c;
      }
    }
    auto in_place = x;
    apply_dropout(in_place.data(), stride, key, kRowKeys.data(), kPositions.data(), width, in_place.data(), stride, 0,
                  kRows, GetParam());
    EXPECT_TRUE(equal_bits(in_place, out));
  }
};

TEST_P(DropoutTest, EqualsTheDefinitionBitForBit) {
  for (const int64_t width : test_widths()) {
    check<float>(width, 0.05);
    check<Bf16>(width, 0.5);
  }
}

TEST_P(DropoutTest, ProbabilityZeroCopies) {
  const auto x = random_rows<float>(kRows, 40, 40, 62);
  Guarded<float> out(kRows * 40);
  apply_dropout(x.data(), 40, DropoutKey{}, kRowKeys.data(), kPositions.data(), 40, out.data(), 40, 0, kRows,
                GetParam());
  EXPECT_TRUE(equal_bits(out, x));
}

TEST_P(DropoutTest, DropsTheShareAndKeepsTheMean) {
  constexpr int64_t kWidth = 1 << 16;
  constexpr double kProbability = 0.1;
  std::vector<float> ones(kWidth, 1.0f), out(kWidth);
  std::set<std::vector<float>> masks;  // every part of the key changes the mask
  const auto dropped = [&](const DropoutKey& key, uint64_t row_key, int32_t position) {
    apply_dropout(ones.data(), kWidth, key, &row_key, &position, kWidth, out.data(), kWidth, 0, 1, GetParam());
    masks.insert(out);
    return static_cast<double>(std::count(out.begin(), out.end(), 0.0f)) / kWidth;
  };
  const double bound = 5.0 * std::sqrt(kProbability * (1 - kProbability) / kWidth);  // 5 sigma
  EXPECT_NEAR(dropped({1, 1, 1, kProbability}, 1, 1), kProbability, bound);
  EXPECT_NEAR(dropped({2, 1, 1, kProbability}, 1, 1), kProbability, bound);
  EXPECT_NEAR(dropped({1, 2, 1, kProbability}, 1, 1), kProbability, bound);
  EXPECT_NEAR(dropped({1, 1, 2, kProbability}, 1, 1), kProbability, bound);
  EXPECT_NEAR(dropped({1, 1, 1, kProbability}, 2, 1), kProbability, bound);
  EXPECT_NEAR(dropped({1, 1, 1, kProbability}, 1ull << 32, 1), kProbability, bound);
  EXPECT_NEAR(dropped({1, 1, 1, kProbability}, 1, 2), kProbability, bound);
  EXPECT_EQ(masks.size(), 7u);
}

INSTANTIATE_TEST_SUITE_P(Levels, DropoutTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
