// UTF-8 validity against a decoder written the other way round: encode every code point, and try every short byte
// string.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "slmi/base/json.h"

namespace slmi {
namespace {

std::string encode(uint32_t c) {
  std::string out;
  const auto put = [&](uint32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 63));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 63)), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63));
  }
  return out;
}

TEST(Utf8, EveryCodePointAndNoSurrogate) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(is_valid_utf8(encode(c)), !surrogate) << std::hex << c;
  }
  EXPECT_FALSE(is_valid_utf8("\xF4\x90\x80\x80"));  // U+110000
  EXPECT_FALSE(is_valid_utf8("\xF5\x80\x80\x80"));
  EXPECT_FALSE(is_valid_utf8("\xF0\x80\x80\x80"));  // U+0000 and U+FFFF in overlong forms
  EXPECT_FALSE(is_valid_utf8("\xF0\x8F\xBF\xBF"));
  EXPECT_FALSE(is_valid_utf8("\xF0\x90\x80"));
}

TEST(Utf8, OneAndTwoAndThreeByteStringsAreValidExactlyIfTheyAreEncodings) {
  std::set<std::string> singles;  // all encodings of one code point, up to 3 bytes
  for (uint32_t c = 0; c < 0x10000; ++c)
    if (c < 0xD800 || c >= 0xE000) singles.insert(encode(c));
  const auto is_sequence = [&](const std::string& s) {  // s splits into encodings
    std::array<bool, 4> good = {true, false, false, false};
    for (size_t end = 1; end <= s.size(); ++end)
      for (size_t begin = 0; begin < end; ++begin)
        if (good[begin] && singles.contains(s.substr(begin, end - begin))) good[end] = true;
    return good[s.size()];
  };
  for (int a = 0; a < 256; ++a) {
    ASSERT_EQ(is_valid_utf8(std::string{char(a)}), is_sequence(std::string{char(a)})) << a;
    for (int b = 0; b < 256; ++b) {
      const std::string two = {char(a), char(b)};
      ASSERT_EQ(is_valid_utf8(two), is_sequence(two)) << a << " " << b;
    }
  }
  for (int a = 0x7E; a < 0x100; a += 1)
    for (int b : {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xF0, 0xFF})
      for (int c : {0x00, 0x7F, 0x80, 0x90, 0xA0, 0xBF, 0xC0, 0xFF}) {
        const std::string three = {char(a), char(b), char(c)};
        ASSERT_EQ(is_valid_utf8(three), is_sequence(three)) << a << " " << b << " " << c;
      }
}

TEST(Utf8, FirstBadByteIsNamed) {
  uint64_t bad = 99;
  EXPECT_FALSE(is_valid_utf8("ab\xC3\xA9\xFFz", &bad));
  EXPECT_EQ(bad, 4u);
  EXPECT_FALSE(is_valid_utf8("ab\xE2\x82", &bad));  // cut short: the character's first byte
  EXPECT_EQ(bad, 2u);
  EXPECT_FALSE(is_valid_utf8("\xED\xA0\x80", &bad));
  EXPECT_EQ(bad, 0u);
  EXPECT_TRUE(is_valid_utf8(std::string("a\0b", 3)));
  EXPECT_TRUE(is_valid_utf8(""));
}

}  // namespace
}  // namespace slmi
