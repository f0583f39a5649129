// Printable Latin-1 bytes stand for themselves; the other 68 are U+0100 onwards, in order.
#include "byte_alphabet.h"

#include <array>

namespace slmi::text {
namespace {

constexpr int kLast = 0x143;

constexpr bool stands_for_itself(int b) {
  return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

/// Code point -> byte; -1: not in the alphabet.
constexpr std::array<int16_t, kLast + 1> make_bytes() {
  std::array<int16_t, kLast + 1> out{};
  for (auto& byte : out) byte = -1;
  int next = 0x100;
  for (int b = 0; b < 256; ++b) out[static_cast<size_t>(stands_for_itself(b) ? b : next++)] = static_cast<int16_t>(b);
  return out;
}
constexpr std::array<int16_t, kLast + 1> kBytes = make_bytes();

/// The inverse of kBytes.
constexpr std::array<uint16_t, 256> make_characters() {
  std::array<uint16_t, 256> out{};
  for (size_t c = 0; c < kBytes.size(); ++c)
    if (kBytes[c] >= 0) out[static_cast<size_t>(kBytes[c])] = static_cast<uint16_t>(c);
  return out;
}
constexpr std::array<uint16_t, 256> kCharacters = make_characters();

}  // namespace

std::string alphabet_text(std::string_view bytes) {
  std::string out;
  for (const char b : bytes) {
    const uint16_t c = kCharacters[static_cast<uint8_t>(b)];
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else {  // below U+0144: two bytes of UTF-8
      out += static_cast<char>(0xC0 | (c >> 6));
      out += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
  return out;
}

bool append_alphabet_bytes(std::string_view text, std::string& out) {
  const size_t before = out.size();
  for (size_t i = 0; i < text.size();) {
    const auto a = static_cast<uint8_t>(text[i]);
    uint32_t c = a;
    size_t length = 1;
    if (a >= 0xC2 && a <= 0xC5 && i + 1 < text.size()) {  // two bytes reach U+017F: enough
      c = ((a & 0x1Fu) << 6) | (static_cast<uint8_t>(text[i + 1]) & 0x3Fu);
      length = 2;
    } else if (a >= 0x80) {
      c = kLast + 1;
    }
    if (c > kLast || kBytes[c] < 0) {
      out.resize(before);
      return false;
    }
    out += static_cast<char>(kBytes[c]);
    i += length;
  }
  return true;
}

}  // namespace slmi::text
