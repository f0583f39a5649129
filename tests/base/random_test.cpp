// Random numbers: known answers, no modulo bias, and permutations that depend on (seed, stream) alone.
#include "slmi/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

namespace slmi {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(Philox, KnownAnswersOfRandom123) {  // kat_vectors of the Random123 distribution, philox4x32 10 rounds
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(SplitMix64, KnownAnswers) {  // the values published with Vigna's splitmix64.c for seed 1234567
  uint64_t state = 1234567;
  EXPECT_EQ(splitmix64(state), 6457827717110365317ull);
  EXPECT_EQ(splitmix64(state), 3203168211198807973ull);
  EXPECT_EQ(splitmix64(state), 9817491932198370423ull);
}

TEST(Random, KnownAnswers) {  // xoshiro256** from a SplitMix64 seed; a Python transcription of the paper gives the same
  Random random(0);
  EXPECT_EQ(random.next(), 0x99ec5f36cb75f2b4ull);
  EXPECT_EQ(random.next(), 0xbf6e1f784956452aull);
  EXPECT_EQ(random.next(), 0x1a5f849d4933e6e0ull);
  EXPECT_EQ(random.next(), 0x6aa594f1262d2d2cull);
  Random below(42);
  std::vector<uint64_t> got;
  for (int i = 0; i < 16; ++i) got.push_back(below.below(10));
  EXPECT_EQ(got, (std::vector<uint64_t>{0, 3, 6, 9, 9, 7, 7, 8, 7, 5, 6, 2, 8, 3, 7, 8}));
}

TEST(Random, BelowStaysBelowAndReachesEveryValue) {
  Random random(1);
  for (uint64_t bound : {1ull, 2ull, 3ull, 7ull, 64ull}) {
    std::set<uint64_t> seen;
    for (int i = 0; i < 2000; ++i) seen.insert(random.below(bound));
    EXPECT_EQ(seen.size(), bound);
    EXPECT_EQ(*seen.rbegin(), bound - 1);
  }
  EXPECT_LT(random.below(~0ull), ~0ull);
}

TEST(Random, BelowHasNoModuloBias) {
  // For a bound of 3 * 2^62, scaling without rejection gives each third value twice as often: shares 1/2, 1/4, 1/4.
  constexpr uint64_t kBound = 3ull << 62;
  constexpr int kDraws = 30000;
  std::array<int, 3> counts{};
  Random random(17);
  for (int i = 0; i < kDraws; ++i) ++counts[random.below(kBound) % 3];
  const double sigma = std::sqrt(kDraws * (1.0 / 3) * (2.0 / 3));
  for (int count : counts) EXPECT_NEAR(count, kDraws / 3.0, 5 * sigma);
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  constexpr int kDraws = 100000;
  Random random(5);
  double sum = 0, normal_sum = 0, normal_squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    const double z = random.normal();
    ASSERT_TRUE(std::isfinite(z));
    normal_sum += z;
    normal_squares += z * z;
  }
  const double n = kDraws;
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(normal_sum / n, 0.0, 5 / std::sqrt(n));
  EXPECT_NEAR(normal_squares / n, 1.0, 5 * std::sqrt(2 / n));
}

TEST(Random, ShuffleIsFair) {
  std::map<std::array<int, 3>, int> counts;
  Random random(3);
  constexpr int kDraws = 12000;
  for (int i = 0; i < kDraws; ++i) {
    std::array<int, 3> order = {0, 1, 2};
    random.shuffle(std::span<int>(order));
    ++counts[order];
  }
  ASSERT_EQ(counts.size(), 6u);
  const double sigma = std::sqrt(kDraws * (1.0 / 6) * (5.0 / 6));
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, kDraws / 6.0, 5 * sigma);
}

TEST(Permutation, KnownAnswersPerSeedAndStream) {
  EXPECT_EQ(permutation(12, 7, 0), (std::vector<int64_t>{0, 6, 9, 10, 1, 5, 8, 3, 7, 11, 4, 2}));
  EXPECT_EQ(permutation(12, 7, 1), (std::vector<int64_t>{7, 8, 3, 10, 9, 11, 0, 2, 5, 6, 4, 1}));
}

TEST(Permutation, HoldsEachIndexOnce) {
  for (int64_t n : {0, 1, 2, 1000}) {
    auto order = permutation(n, 11, 2);
    std::sort(order.begin(), order.end());
    std::vector<int64_t> want(n);
    std::iota(want.begin(), want.end(), 0);
    EXPECT_EQ(order, want);
  }
}

}  // namespace
}  // namespace slmi
