// The words that the shop rules know, a language: verbs of the training templates, negations, corrections, numbers.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace slmi::data {

/// A rule of words, all lower case and without diacritics: it holds if every one of them is in the text. `*` at the
/// end: any ending. `+` between two words: the second follows at once.
using WordRule = std::vector<std::string_view>;

struct ShopWords {
  std::string_view lang;
  std::vector<WordRule> remove, add;  // tried in this order: "put ... back" before "put"
  std::vector<WordRule> no_order;     // negated and hypothetical requests
  std::vector<std::string_view> corrections;
  std::vector<std::string_view> all;
  std::vector<std::pair<std::string_view, int64_t>> numbers;
  std::vector<std::pair<std::string_view, int64_t>> phrases;  // two words: "half a dozen" is half+a
};

/// The words of a language, or null.
const ShopWords* shop_words(std::string_view lang);

}  // namespace slmi::data
