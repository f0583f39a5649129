// What a few lines of plain code reach on the same rows: shown beside every model.
#pragma once

#include <optional>

#include "system.h"

namespace slmi::eval {

inline constexpr const char* kBagOfWordsName = "bag-of-words";
inline constexpr const char* kRulesName = "rules";

/// Logistic regression on n-grams for the intent, training's slot values or nearest name and number words for the rest.
/// Absent if the training rows have no intents.
std::optional<System> bag_of_words(const data::RowSet& train, const data::RowSet& test);

/// True if rows show a list of products and expect an action: the shop task.
bool is_shop(const data::RowSet& set);
/// Keyword rules of the shop task.
System rules(const data::RowSet& test);

}  // namespace slmi::eval
