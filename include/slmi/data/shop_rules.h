// Keyword rules for the shop set (data/shop): what an engineer who knows its training templates would write, as the
// baseline `rules` beside every model's score.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/data/row.h"

namespace slmi::data {

/// An answer string of the shop set: `{"action": "add", "product": "...", "quantity": 2}`.
std::string shop_answer(const std::string& action, const Json& product, const Json& quantity);

/// The answer string that the rules give, with nulls and the action `none` where they see no order.
///
/// Action    the verbs of the training templates (English, German, Spanish), one typing error allowed; none of those
///           kept for `test_verb`. A negation or a "would have" of the training templates means no order.
/// Product   the shown name nearest to any run of words by edit distance (case and diacritics folded, spaces removed);
///           of names that differ in their size alone, the one whose size is said.
/// Quantity  the number (digits or word), dozen or `all` nearest before the product, or `x3` after it; after a
///           correction ("two, no, three") the last one; else 1.
///
/// A language without rules gets `none`. Never throws on odd text; cost O(words * names * name length^2).
std::string predict_shop_rules(std::string_view text, std::string_view lang, const std::vector<std::string>& catalog);

/// The same for a row's `text`, `lang` and `catalog`.
std::string predict_shop_rules(const Row& row);

}  // namespace slmi::data
