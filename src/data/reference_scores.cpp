// The plain baseline put together; see the header.
#include "slmi/data/reference_scores.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "reference_scores_classifier.h"
#include "reference_scores_shop.h"
#include "reference_scores_slots.h"
#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/data/shop_rules.h"

namespace slmi::data {
namespace {

/// What an answer is made of beside its class.
enum class AnswerForm { Fixed, Slots, Shop };

struct ClassName {
  AnswerForm form = AnswerForm::Fixed;
  std::string label;
  auto operator<=>(const ClassName&) const = default;
};

constexpr const char* kNoAction = "none";

/// The action of a shop answer {"action", "product", "quantity"}; empty for others.
std::string action_of(const Row& row) {
  if (row.catalog.empty() || !row.answer.starts_with('{')) return {};
  try {
    const Json answer = parse_json(row.answer, row.id);
    const bool is_shop = answer.size() == 3 && answer.contains("product") && answer.contains("quantity");
    return is_shop && answer.contains("action") && answer.at("action").is_string() ? answer.at("action") : Json("");
  } catch (const Error&) {
    return {};
  }
}

/// An empty label: the row has no class.
ClassName class_of(const Row& row) {
  if (auto action = action_of(row); !action.empty()) return {AnswerForm::Shop, std::move(action)};
  const bool slots = row.has_slots && row.answer == intent_answer(row.intent, true, row.slots);
  return {slots ? AnswerForm::Slots : AnswerForm::Fixed, row.intent};
}

/// What the classifier sees of a row.
std::string seen_text(const Row& row) {
  if (row.catalog.empty()) return row.text;
  const auto words = shop_words_of(row.text);
  return without_name(row.text, words, nearest_name(words, row.catalog));
}

}  // namespace

struct BagOfWords::Model {
  struct Class {
    ClassName name;
    SlotValues slots;
    std::map<std::string, int64_t> answers;  // of AnswerForm::Fixed: how often
    std::string usual_answer;
  };
  std::vector<Class> classes;  // sorted by name
  NgramClassifier classifier;

  const Class& classify(std::string_view text) const { return classes[static_cast<size_t>(classifier.classify(text))]; }
};

bool BagOfWords::applies_to(std::span<const Row> rows) {
  return std::any_of(rows.begin(), rows.end(), [](const Row& row) { return !class_of(row).label.empty(); });
}

BagOfWords BagOfWords::fit(std::span<const Row> rows, const BagOfWordsOptions& options) {
  std::vector<const Row*> used;
  std::vector<ClassName> names;
  std::map<ClassName, int32_t> index;
  for (const Row& row : rows) {
    ClassName name = class_of(row);
    if (name.label.empty()) continue;
    index.emplace(name, 0);
    names.push_back(std::move(name));
    used.push_back(&row);
  }
  require(!used.empty(), ErrorKind::Input, "bag of words: none of {} rows has an intent or an action to learn",
          rows.size());

  auto model = std::make_shared<Model>();
  for (auto& [name, i] : index) {
    i = static_cast<int32_t>(model->classes.size());
    model->classes.push_back({name, {}, {}, {}});
  }
  std::vector<int32_t> classes;
  for (size_t i = 0; i < used.size(); ++i) {
    classes.push_back(index.at(names[i]));
    auto& its = model->classes[static_cast<size_t>(classes.back())];
    if (names[i].form == AnswerForm::Slots) its.slots.learn(used[i]->text, used[i]->slots);
    if (names[i].form == AnswerForm::Fixed) ++its.answers[used[i]->answer];
  }
  for (auto& its : model->classes) {
    its.slots.finish();
    int64_t most = 0;
    for (const auto& [answer, count] : its.answers) {
      if (count <= most) continue;
      most = count;
      its.usual_answer = answer;
    }
  }
  std::vector<std::string> texts(used.size());
  parallel_for(static_cast<int64_t>(used.size()), [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) texts[i] = seen_text(*used[i]);
  });
  model->classifier = NgramClassifier::fit(texts, classes, static_cast<int32_t>(model->classes.size()), options);
  return BagOfWords(std::move(model));
}

std::string BagOfWords::predict(const Row& row) const {
  const auto& its = model_->classify(seen_text(row));
  if (its.name.form == AnswerForm::Fixed) return its.usual_answer;
  if (its.name.form == AnswerForm::Slots) return intent_answer(its.name.label, true, its.slots.find(row.text));
  const auto words = shop_words_of(row.text);
  const ShownName name = nearest_name(words, row.catalog);
  if (its.name.label == kNoAction || !name.is_said()) return shop_answer(kNoAction, nullptr, nullptr);
  const std::string& shown = row.catalog[name.index];
  return shop_answer(its.name.label, shown, nearest_quantity(row.text, words, name, shown, row.lang));
}

std::string BagOfWords::predict_intent(const Row& row) const {
  return model_->classify(seen_text(row)).name.label;
}

int64_t BagOfWords::num_classes() const {
  return static_cast<int64_t>(model_->classes.size());
}

int64_t BagOfWords::num_features() const {
  return model_->classifier.num_features();
}

}  // namespace slmi::data
