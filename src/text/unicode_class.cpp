// The class table, filled once from the generated ranges.
#include "unicode_class.h"

#include <span>

namespace slmi::text {
namespace {

struct CodePointRange {
  uint32_t first, last;
};

#include "unicode_ranges.inc"

constexpr CodePointRange kNewNumberRanges[] = {{0x11DE0, 0x11DE9}, {0x16FF4, 0x16FF6}};

}  // namespace

ClassTable::ClassTable() {
  ascii_.fill(CharClass::Other);
  words_.fill(0);
  const auto fill = [&](std::span<const CodePointRange> ranges, CharClass value) {
    for (const auto& range : ranges) {
      for (uint32_t c = range.first; c <= range.last; ++c) set(c, value);
    }
  };
  fill(kLetterRanges, CharClass::Letter);
  fill(kNumberRanges, CharClass::Number);
  fill(kSpaceRanges, CharClass::Space);
}

void ClassTable::set(uint32_t code_point, CharClass value) {
  const auto shift = static_cast<int>((code_point & 3) * 2);
  words_[code_point >> 2] = static_cast<uint8_t>(words_[code_point >> 2] | (static_cast<int>(value) << shift));
  if (code_point < ascii_.size()) ascii_[code_point] = value;
}

const ClassTable& ClassTable::standard() {
  static const ClassTable table;
  return table;
}

const ClassTable& ClassTable::with_new_digits() {
  static const ClassTable table = [] {
    ClassTable out;
    for (const auto& range : kNewNumberRanges) {
      for (uint32_t c = range.first; c <= range.last; ++c) out.set(c, CharClass::Number);
    }
    return out;
  }();
  return table;
}

}  // namespace slmi::text
