// Text as the plain baseline sees it: lower-case words and marks, each with its place in the original.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace slmi::data {

struct TextToken {
  std::string text;           // lower case: ASCII, and the letters U+00C0..U+00DE
  size_t begin = 0, end = 0;  // bytes [begin, end) of the original
  bool is_word = false;       // letters, digits and all that is not ASCII; else one ASCII punctuation mark
};

std::vector<TextToken> tokenize_text(std::string_view text);

/// The same letters without the diacritics of U+00DF..U+00FF: "größe" -> "grosse".
std::string without_diacritics(std::string_view lower);

}  // namespace slmi::data
