// The plain 32-weight types at every level: the scalar code's bits, for values that orders of operations, signs of
// zeros and conversions could tell apart. (The scalar code's own are the gguf package's: gguf_codec_test.cpp.)
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "slmi/kernels/cpu/block_round.h"
#include "slmi/quant/gguf_codec.h"
#include "test_support.h"

namespace slmi {
namespace {

using kernels::kSmallBlock;
using kernels::cpu::SimdLevel;
using quant::WeightFormat;

constexpr std::array kFormats = {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1};

using Values = std::vector<float>;

/// Blocks of values, each made by `value(index in the block)`.
template <class Value>
void add_blocks(Values& out, int64_t count, const Value& value) {
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < kSmallBlock; ++i) out.push_back(static_cast<float>(value(i)));
}

struct Case {
  const char* name;
  Values values;
};

/// A value beside zeros and others, at each place of a block, with each sign.
Values one_alone(float alone, float others) {
  Values out;
  for (const float sign : {1.0f, -1.0f})
    for (int64_t at = 0; at < kSmallBlock; ++at)
      add_blocks(out, 1, [&](int64_t i) { return i == at ? sign * alone : others; });
  return out;
}

/// Two of the same magnitude, the negative one before or behind the other.
Values ties(float most) {
  Values out;
  for (int64_t at = 0; at + 1 < kSmallBlock; ++at)
    for (const float sign : {1.0f, -1.0f})
      add_blocks(out, 1, [&](int64_t i) { return i == at ? sign * most : i == at + 1 ? -sign * most : 0.1f * most; });
  return out;
}

std::vector<Case> cases() {
  constexpr float kMax = std::numeric_limits<float>::max(), kLeast = std::numeric_limits<float>::denorm_min();
  constexpr float kNormal = std::numeric_limits<float>::min();
  Random random(41);
  const auto coin = [&random] { return random.uniform() < 0.5; };
  const auto signed_zero = [&](int64_t) { return coin() ? 0.0f : -0.0f; };
  std::vector<Case> out;
  const auto add = [&](const char* name, int64_t count, const auto& value) {
    add_blocks(out.emplace_back(Case{name, {}}).values, count, value);
  };
  add("normal", 300, [&](int64_t) { return 0.02 * random.normal(); });
  add("heavy tails", 100, [&](int64_t) { return random.normal() * (random.uniform() < 0.05 ? 10.0 : 0.01); });
  add("positive", 40, [&](int64_t) { return 1.0 + random.uniform(); });
  add("negative", 40, [&](int64_t) { return -1.0 - random.uniform(); });
  add("few levels, halves among them", 100, [&](int64_t) { return std::round(8.0 * random.normal()) / 2.0; });
  add("signs alone", 60, [&](int64_t) { return coin() ? 1.5 : -1.5; });
  add("signed zeros", 60, signed_zero);
  add("zero", 1, [](int64_t) { return 0.0f; });
  add("negative zero", 1, [](int64_t) { return -0.0f; });
  add("zeros and positive", 60, [&](int64_t i) { return coin() ? signed_zero(i) : 0.25f; });
  add("zeros and negative", 60, [&](int64_t i) { return coin() ? signed_zero(i) : -0.25f; });
  add("constant", 1, [](int64_t) { return -0.75f; });
  add("subnormal", 60, [&](int64_t) { return kLeast * std::round(1000.0 * random.normal()); });
  add("the least numbers", 60, [&](int64_t) { return coin() ? kLeast : coin() ? -kLeast : 0.0f; });
  add("scales on the edge of a finite reciprocal", 200,
      [&](int64_t) { return kNormal * random.normal() * std::exp2(6.0 * random.uniform() - 3.0); });
  add("huge", 60, [&](int64_t) { return kMax * (2.0 * random.uniform() - 1.0); });
  add("the range overflows", 60, [&](int64_t) { return coin() ? kMax : -kMax; });
  add("every magnitude", 200, [&](int64_t) { return random.normal() * std::exp2(250.0 * random.uniform() - 140.0); });
  out.push_back({"one alone", one_alone(3.0f, 0.0f)});
  out.push_back({"one above the others", one_alone(1.0f, 0.999f)});
  out.push_back({"one alone, subnormal", one_alone(100 * kLeast, 0.0f)});
  out.push_back({"ties", ties(2.0f)});
  out.push_back({"huge ties", ties(kMax)});
  return out;
}

TEST(SmallBlocks, EveryLevelHasTheScalarBits) {
  if (test::vector_levels().empty()) GTEST_SKIP() << "this CPU has no vector level";
  for (const Case& c : cases()) {
    const auto k = static_cast<int64_t>(c.values.size());
    for (const WeightFormat format : kFormats) {
      const auto bytes = [&](SimdLevel level) {
        return quant::quantize(format, c.values, 1, k, {.importance = {}, .level = level});
      };
      const auto want = bytes(SimdLevel::Scalar);
      for (const SimdLevel level : test::vector_levels()) {
        const auto got = bytes(level);
        const auto at = std::mismatch(got.begin(), got.end(), want.begin()).first - got.begin();
        EXPECT_EQ(at, static_cast<std::ptrdiff_t>(want.size()))
            << quant::name(format) << ", " << c.name << ", level " << static_cast<int>(level) << ": block "
            << at / quant::block_bytes(format);
      }
    }
  }
}

/// Rows shorter and longer than what is rounded at once.
TEST(SmallBlocks, EveryNumberOfBlocksIsTheSameBlocks) {
  Random random(42);
  Values values(67 * kSmallBlock);
  for (float& v : values) v = static_cast<float>(random.normal());
  for (const WeightFormat format : kFormats) {
    const auto all = quant::quantize(format, values, 1, static_cast<int64_t>(values.size()));
    for (const int64_t blocks : {1, 2, 31, 32, 33, 63, 64, 65, 67}) {
      const auto k = blocks * kSmallBlock;
      const auto got = quant::quantize(format, std::span<const float>(values).first(static_cast<size_t>(k)), 1, k);
      EXPECT_EQ(got, std::vector<std::byte>(all.begin(), all.begin() + blocks * quant::block_bytes(format)))
          << quant::name(format) << ", " << blocks << " blocks";
    }
  }
}

/// The codes by hand, and nothing written behind them.
TEST(SmallBlocks, CodesAndScalesAreThoseOfTheRule) {
  Values x(2 * kSmallBlock, 0.0f);
  x[0] = -8.0f;  // scale 1: the codes are 8 + x
  x[1] = 7.0f;
  x[2] = 2.5f;  // halves are rounded up
  x[3] = -2.5f;
  x[kSmallBlock + 5] = 4.0f;  // scale -0.5
  x[kSmallBlock + 6] = -4.0f;
  std::vector<SimdLevel> levels = test::vector_levels();
  levels.push_back(SimdLevel::Scalar);
  for (const SimdLevel level : levels) {
    Values scale(3, 77.0f), base(3, 77.0f);
    std::vector<uint8_t> codes(2 * kSmallBlock + 1, 0xAA);
    kernels::cpu::round_symmetric_blocks(x.data(), 2, 8, scale.data(), codes.data(), level);
    EXPECT_EQ(scale, (Values{1.0f, -0.5f, 77.0f}));
    EXPECT_EQ(std::vector<int>(codes.begin(), codes.begin() + 5), (std::vector<int>{0, 15, 11, 6, 8}));
    EXPECT_EQ(codes[kSmallBlock + 5], 0);
    EXPECT_EQ(codes[kSmallBlock + 6], 15) << "16 does not fit";
    EXPECT_EQ(codes.back(), 0xAA);
    kernels::cpu::round_affine_blocks(x.data(), 2, 15, scale.data(), base.data(), codes.data(), level);
    EXPECT_EQ(scale, (Values{1.0f, 8.0f / 15.0f, 77.0f}));
    EXPECT_EQ(base, (Values{-8.0f, -4.0f, 77.0f}));
    EXPECT_EQ(std::vector<int>(codes.begin(), codes.begin() + 5), (std::vector<int>{0, 15, 11, 6, 8}));
    EXPECT_EQ(codes[kSmallBlock + 5], 15);
    EXPECT_EQ(codes.back(), 0xAA);
  }
}

}  // namespace
}  // namespace slmi
