// Letters, numbers and white space, as the pre-tokenizer patterns mean them, and decoding of UTF-8 known to be valid.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

namespace slmi::text {

/// \p{L}, \p{N}, \s and the rest: every code point is in exactly one.
enum class CharClass : uint8_t { Other, Letter, Number, Space };

/// Two bits a code point, 272 KiB, of which real text touches a few cache lines. Unicode 16.0.
class ClassTable {
 public:
  /// The classes of tiktoken and of tokenizers' regular expressions.
  static const ClassTable& standard();
  /// Those of tokenizers' `Digits` step: 13 code points that Unicode 17.0 added as numbers count as such too, since
  /// that step asks Rust's char::is_numeric, and the patterns after it leave single characters alone.
  static const ClassTable& with_new_digits();

  CharClass at(uint32_t code_point) const {
    return static_cast<CharClass>((words_[code_point >> 2] >> ((code_point & 3) * 2)) & 3);
  }
  CharClass at_ascii(uint8_t c) const { return ascii_[c]; }

 private:
  ClassTable();
  void set(uint32_t code_point, CharClass value);
  std::array<CharClass, 128> ascii_;
  std::array<uint8_t, 0x110000 / 4> words_;
};

struct CodePoint {
  uint32_t value = 0;
  uint32_t length = 0;  // bytes
};

/// The code point at `p`, which must be the first byte of a valid sequence.
inline CodePoint decode_utf8(const uint8_t* p) {
  const uint32_t b = p[0];
  if (b < 0x80) return {b, 1};
  if (b < 0xE0) return {((b & 0x1F) << 6) | (p[1] & 0x3Fu), 2};
  if (b < 0xF0) return {((b & 0x0F) << 12) | ((p[1] & 0x3Fu) << 6) | (p[2] & 0x3Fu), 3};
  return {((b & 0x07) << 18) | ((p[1] & 0x3Fu) << 12) | ((p[2] & 0x3Fu) << 6) | (p[3] & 0x3Fu), 4};
}

}  // namespace slmi::text
