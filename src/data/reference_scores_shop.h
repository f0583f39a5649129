// Product and quantity of a shop request, for the plain baseline: nearest shown name, nearest number.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "reference_scores_text.h"
#include "slmi/base/json.h"

namespace slmi::data {

/// A shown name and the words of a request that came nearest to it.
struct ShownName {
  size_t index = 0;           // in the catalogue
  size_t begin = 0, end = 0;  // words [begin, end)
  double distance = 1;        // edit distance / longer length, without spaces and diacritics

  /// Near enough to be meant, whatever the typing errors.
  bool is_said() const { return distance <= kFarthest; }
  static constexpr double kFarthest = 0.34;  // the bound of the keyword rules (shop_rules.cpp)
};

/// The words of a request, lower case and without diacritics; punctuation is left out.
std::vector<TextToken> shop_words_of(std::string_view text);

/// The shown name nearest to any run of words; of equals the first. Without words or names the distance is 1.
ShownName nearest_name(const std::vector<TextToken>& words, const std::vector<std::string>& catalog);

/// The request with the words of a name that is said replaced by one mark: what the classifier of actions sees, so that
/// it learns from verbs and not from products, and can tell requests for products that are not shown.
std::string without_name(std::string_view text, const std::vector<TextToken>& words, const ShownName& name);

/// The number nearest before the name in its sentence: digits, `3x`, number words and dozens of the language (of all
/// known ones if it is none of them), or "all" where a word for all comes first; numbers of the name itself ("500 g")
/// do not count. Else an `x3` after it, else 1.
/// @param shown  the name as the catalogue has it.
Json nearest_quantity(std::string_view text, const std::vector<TextToken>& words, const ShownName& name,
                      std::string_view shown, std::string_view lang);

}  // namespace slmi::data
