// 16-bit numbers: every one of the 65,536 patterns, and rounding against arithmetic in f64.
#include "slmi/base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "slmi/base/random.h"

namespace slmi {
namespace {

/// Value of a binary16 or bfloat16 pattern from its definition: sign, exponent, fraction; NaN and infinity included.
double value_of(uint16_t bits, int fraction_bits, int bias) {
  const int exponent_bits = 15 - fraction_bits;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

struct Kind {
  const char* name;
  int fraction_bits, bias;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);
};
const Kind kKinds[] = {{"f16", 10, 15, f16_to_f32, f32_to_f16}, {"bf16", 7, 127, bf16_to_f32, f32_to_bf16}};

TEST(Half, EveryPatternWidensToItsValueAndComesBack) {
  for (const Kind& k : kKinds) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto h = static_cast<uint16_t>(bits);
      const double want = value_of(h, k.fraction_bits, k.bias);
      const float got = k.widen(h);
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(got)) << k.name << " " << bits;
        ASSERT_TRUE(std::isnan(k.widen(k.narrow(got)))) << k.name << " " << bits;
        continue;
      }
      ASSERT_EQ(static_cast<double>(got), want) << k.name << " " << bits;
      ASSERT_EQ(std::signbit(got), std::signbit(want)) << k.name << " " << bits;
      ASSERT_EQ(k.narrow(got), h) << k.name << " " << bits;
    }
  }
}

TEST(Half, RoundsToTheNearestAndTiesToEven) {
  for (const Kind& k : kKinds) {
    const uint16_t infinity = k.narrow(INFINITY);
    for (uint16_t h = 0; h < infinity - 1;
         ++h) {  // neighbours h and h + 1, both finite; their middle is exact in f32 or f64
      const double low = k.widen(h), high = k.widen(h + 1);
      const auto middle = static_cast<float>((low + high) / 2);
      if (static_cast<double>(middle) != (low + high) / 2) continue;  // f32 subnormals of bf16
      const uint16_t even = (h & 1) == 0 ? h : h + 1;
      ASSERT_EQ(k.narrow(middle), even) << k.name << " " << h;
      ASSERT_EQ(k.narrow(std::nextafterf(middle, 0.0f)), h) << k.name << " " << h;
      ASSERT_EQ(k.narrow(std::nextafterf(middle, INFINITY)), h + 1) << k.name << " " << h;
      ASSERT_EQ(k.narrow(-middle), even | 0x8000) << k.name << " " << h;
    }
  }
}

TEST(Half, OverflowGivesInfinity) {
  EXPECT_EQ(f32_to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(f32_to_f16(std::nextafterf(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
}

TEST(Half, NanStaysNan) {
  for (uint32_t bits : {0x7f800001u, 0x7f801000u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::bit_cast<float>(bits))))) << std::hex << bits;
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(bits))))) << std::hex << bits;
  }
}

TEST(Half, RandomNumbersRoundToTheNearestOfTheirNeighbours) {
  Random random(9);
  for (const Kind& k : kKinds) {
    for (int i = 0; i < 200000; ++i) {
      const auto f = std::bit_cast<float>(static_cast<uint32_t>(random.next()));
      if (!std::isfinite(f)) continue;
      const uint16_t h = k.narrow(f);
      if (std::isinf(k.widen(h))) continue;  // covered above
      const double distance = std::abs(static_cast<double>(k.widen(h)) - f);
      const uint16_t magnitude = h & 0x7fff;
      for (int step : {-1, 1}) {
        if (magnitude + step < 0) continue;
        const float neighbour = k.widen(static_cast<uint16_t>((h & 0x8000) | (magnitude + step)));
        if (std::isinf(neighbour)) continue;
        ASSERT_LE(distance, std::abs(static_cast<double>(neighbour) - f)) << k.name << " " << f;
      }
    }
  }
}

}  // namespace
}  // namespace slmi
