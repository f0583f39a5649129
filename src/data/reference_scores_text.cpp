// Words and marks; see the header.
#include "reference_scores_text.h"

#include <array>

namespace slmi::data {
namespace {

bool is_word_byte(unsigned char c) {
  return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Second byte of a letter U+00C0..U+00DE (lead byte C3), the multiplication sign U+00D7 left out.
bool is_latin_capital(unsigned char lead, unsigned char second) {
  return lead == 0xC3 && second >= 0x80 && second <= 0x9E && second != 0x97;
}

void append_lower(std::string_view text, size_t i, std::string& out) {
  const auto c = static_cast<unsigned char>(text[i]);
  if (c >= 'A' && c <= 'Z')
    out += static_cast<char>(c - 'A' + 'a');
  else if (i > 0 && is_latin_capital(static_cast<unsigned char>(text[i - 1]), c))
    out += static_cast<char>(c + 0x20);
  else
    out += static_cast<char>(c);
}

/// Base letters of U+00DF..U+00FF; null: left as it is.
constexpr std::array<const char*, 33> kBase = {"ss", "a", "a",     "a", "a", "a", "a", "ae", "c", "e",  "e",
                                               "e",  "e", "i",     "i", "i", "i", "d", "n",  "o", "o",  "o",
                                               "o",  "o", nullptr, "o", "u", "u", "u", "u",  "y", "th", "y"};

}  // namespace

std::vector<TextToken> tokenize_text(std::string_view text) {
  std::vector<TextToken> out;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c <= ' ' || c == 0x7F) {
      ++i;
      continue;
    }
    TextToken token{{}, i, i, is_word_byte(c)};
    do append_lower(text, i++, token.text);
    while (token.is_word && i < text.size() && is_word_byte(static_cast<unsigned char>(text[i])));
    token.end = i;
    out.push_back(std::move(token));
  }
  return out;
}

std::string without_diacritics(std::string_view lower) {
  std::string out;
  for (size_t i = 0; i < lower.size(); ++i) {
    const auto c = static_cast<unsigned char>(lower[i]);
    const auto next = i + 1 < lower.size() ? static_cast<unsigned char>(lower[i + 1]) : 0u;
    if (c == 0xC3 && next >= 0x9F && next <= 0xBF && kBase[next - 0x9Fu] != nullptr) {
      out += kBase[next - 0x9Fu];
      ++i;
    } else {
      out += lower[i];
    }
  }
  return out;
}

}  // namespace slmi::data
