// Plain baselines; see the header.
#include "baselines.h"

#include <algorithm>

#include "slmi/base/error.h"
#include "slmi/data/reference_scores.h"
#include "slmi/data/shop_rules.h"

namespace slmi::eval {
namespace {

template <class Answer>
std::vector<RowAnswer> answer_all(const data::RowSet& test, const Answer& answer) {
  std::vector<RowAnswer> out;
  for (const auto& row : test.rows) out.push_back({row.id, answer(row), std::nullopt, true});
  return out;
}

}  // namespace

std::optional<System> bag_of_words(const data::RowSet& train, const data::RowSet& test) {
  if (!data::BagOfWords::applies_to(train.rows)) return std::nullopt;
  const auto model = data::BagOfWords::fit(train.rows);
  System system;
  system.name = kBagOfWordsName;
  system.kind = SystemKind::Baseline;
  system.description = "logistic regression on word and character n-grams, and look-ups";
  system.answers = answer_all(test, [&](const data::Row& row) { return model.predict(row); });
  system.notes.push_back(fmt::format("trained on {} rows: {} classes, {} n-grams", train.rows.size(),
                                     model.num_classes(), model.num_features()));
  return system;
}

bool is_shop(const data::RowSet& set) {
  return std::all_of(set.rows.begin(), set.rows.end(), [](const data::Row& row) {
    if (row.catalog.empty()) return false;
    const Json answer = Json::parse(row.answer, nullptr, /*allow_exceptions=*/false);
    return answer.is_object() && answer.contains("action") && answer.contains("product") && answer.contains("quantity");
  });
}

System rules(const data::RowSet& test) {
  System system;
  system.name = kRulesName;
  system.kind = SystemKind::Baseline;
  system.description = "keyword rules by someone who knows the training templates";
  system.answers = answer_all(test, [](const data::Row& row) { return data::predict_shop_rules(row); });
  return system;
}

}  // namespace slmi::eval
