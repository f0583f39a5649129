// Scores of many rows: a hand-counted set, and scikit-learn's figures (make_golden.py).
#include "slmi/metrics/summary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../base/expect_error.h"

namespace slmi::metrics {
namespace {

std::string action(const std::string& name, int quantity) {
  return R"({"action": ")" + name + R"(", "quantity": )" + std::to_string(quantity) + "}";
}

RowScore scored(std::string id, std::string expected, std::string_view got, std::string lang, std::string slice) {
  ExpectedRow row;
  row.id = std::move(id);
  row.answer = std::move(expected);
  row.lang = std::move(lang);
  row.slice = std::move(slice);
  row.oos = row.answer.find("none") != std::string::npos;
  return score_row(row, got);
}

/// Ten rows: 6 add, 2 remove, 2 out of scope.
std::vector<RowScore> ten_rows() {
  return {
      scored("1", action("add", 1), action("add", 1), "en", "iid"),
      scored("2", action("add", 2), action("add", 2), "en", "iid"),
      scored("3", action("add", 3), action("add", 4), "en", "iid"),     // quantity wrong
      scored("4", action("add", 4), action("remove", 4), "de", "iid"),  // intent wrong
      scored("5", action("add", 5), "oh dear", "de", "both"),           // not JSON
      scored("6", action("add", 6), action("none", 6), "de", "both"),   // taken for out of scope
      scored("7", action("remove", 1), action("remove", 1), "de", "both"),
      scored("8", action("remove", 2), action("clear", 2), "en", ""),  // an intent that no row expects
      scored("9", action("none", 0), action("none", 0), "en", ""),
      scored("10", action("none", 0), "{\"action\":\"add\",\"quantity\":0}", "en", ""),
  };
}

TEST(Summary, Proportions) {
  const auto got = summarize(ten_rows());
  EXPECT_EQ(got.n, 10);
  EXPECT_DOUBLE_EQ(got.exact_match.value, 0.4);  // 1, 2, 7, 9
  EXPECT_DOUBLE_EQ(got.exact_match.low, wilson_interval(4, 10).low);
  EXPECT_DOUBLE_EQ(got.exact_match.high, wilson_interval(4, 10).high);
  EXPECT_DOUBLE_EQ(got.string_match.value, 0.4);
  EXPECT_DOUBLE_EQ(got.valid_json->value, 0.9);
  EXPECT_FALSE(got.order_free_match.has_value());
  ASSERT_EQ(got.fields.size(), 2u);
  EXPECT_EQ(got.fields[0].first, "action");
  EXPECT_DOUBLE_EQ(got.fields[0].second.value, 0.5);  // 1, 2, 3, 7, 9
  EXPECT_EQ(got.fields[1].first, "quantity");
  EXPECT_DOUBLE_EQ(got.fields[1].second.value, 0.8);  // all but 3 and 5
  EXPECT_DOUBLE_EQ(got.intent_accuracy->value, 0.5);
  EXPECT_FALSE(got.slot_f1.has_value());
}

TEST(Summary, PerIntentAndConfusion) {
  const auto got = summarize(ten_rows());
  ASSERT_EQ(got.per_intent.size(), 3u);
  const auto& [add_name, add] = got.per_intent[0];
  EXPECT_EQ(add_name, "add");  // expected 6, answered 4 (1, 2, 3, 10), both 3
  EXPECT_EQ(add.support, 6);
  EXPECT_EQ(add.answered, 4);
  EXPECT_DOUBLE_EQ(add.precision, 0.75);
  EXPECT_DOUBLE_EQ(add.recall, 0.5);
  EXPECT_DOUBLE_EQ(add.f1, 0.6);
  EXPECT_DOUBLE_EQ(add.exact_match.value(), 2.0 / 6);
  EXPECT_EQ(got.per_intent[1].first, "none");  // expected 2, answered 2 (6, 9), both 1
  EXPECT_DOUBLE_EQ(got.per_intent[1].second.f1, 0.5);
  EXPECT_EQ(got.per_intent[2].first, "remove");  // expected 2, answered 2 (4, 7), both 1
  EXPECT_DOUBLE_EQ(got.per_intent[2].second.f1, 0.5);
  EXPECT_DOUBLE_EQ(got.macro_f1->value, 1.6 / 3);
  EXPECT_LT(got.macro_f1->low, got.macro_f1->value);
  EXPECT_GT(got.macro_f1->high, got.macro_f1->value);

  EXPECT_EQ(got.confusion->expected, (std::vector<std::string>{"add", "none", "remove"}));
  EXPECT_EQ(got.confusion->answered, (std::vector<std::string>{"add", "none", "remove", "(other)", "(not JSON)"}));
  const std::vector<std::vector<int64_t>> counts = {{3, 1, 1, 0, 1}, {1, 1, 0, 0, 0}, {0, 0, 1, 1, 0}};
  EXPECT_EQ(got.confusion->counts, counts);
}

TEST(Summary, OutOfScope) {
  const auto got = summarize(ten_rows());
  ASSERT_TRUE(got.out_of_scope.has_value());
  EXPECT_EQ(got.out_of_scope->support, 2);
  EXPECT_EQ(got.out_of_scope->answered, 2);
  EXPECT_DOUBLE_EQ(got.out_of_scope->precision, 0.5);
  EXPECT_DOUBLE_EQ(got.out_of_scope->recall, 0.5);
  EXPECT_DOUBLE_EQ(got.out_of_scope->f1, 0.5);
  EXPECT_DOUBLE_EQ(got.out_of_scope->exact_match.value(), 0.5);
  auto rows = ten_rows();
  rows.resize(5);
  EXPECT_FALSE(summarize(rows).out_of_scope.has_value());
}

TEST(Summary, SlicesLanguagesAndLeaks) {
  const auto got = summarize(ten_rows(), {{}, {"1", "9", "of another set"}});
  ASSERT_EQ(got.slices.size(), 2u);
  EXPECT_EQ(got.slices[0].first, "iid");
  EXPECT_EQ(got.slices[0].second.n, 4);
  EXPECT_DOUBLE_EQ(got.slices[0].second.exact_match.value, 0.5);
  EXPECT_DOUBLE_EQ(got.slices[0].second.intent_accuracy->value, 0.75);
  EXPECT_EQ(got.slices[1].first, "both");
  EXPECT_EQ(got.slices[1].second.n, 3);
  EXPECT_DOUBLE_EQ(got.slices[1].second.exact_match.value, 1.0 / 3);
  ASSERT_EQ(got.languages.size(), 2u);
  EXPECT_EQ(got.languages[0].first, "en");
  EXPECT_EQ(got.languages[0].second.n, 6);
  EXPECT_DOUBLE_EQ(got.languages[0].second.exact_match.value, 0.5);
  EXPECT_EQ(got.languages[1].second.n, 4);
  EXPECT_EQ(got.leaked, 2);
  ASSERT_TRUE(got.without_leaks.has_value());
  EXPECT_EQ(got.without_leaks->n, 8);
  EXPECT_DOUBLE_EQ(got.without_leaks->exact_match.value, 0.25);
  EXPECT_FALSE(summarize(ten_rows()).without_leaks.has_value());
  EXPECT_EQ(summarize(ten_rows(), {{}, {"99"}}).leaked, 0);
}

TEST(Summary, SlotF1IsTheMicroAverage) {
  const std::string one = R"({"intent": "I", "slots": {"a": "x"}})";
  const std::string three = R"({"intent": "I", "slots": {"a": "x", "b": ["y", "z"]}})";
  const std::string none = R"({"intent": "I", "slots": {}})";
  const std::vector<RowScore> rows = {
      scored("1", one, one, "", "s"),     // 1 expected, 1 answered, 1 both
      scored("2", three, one, "", "s"),   // 3, 1, 1
      scored("3", none, three, "", "t"),  // 0, 3, 0
      scored("4", none, none, "", "u"),   // nothing on either side
  };
  const auto got = summarize(rows);
  EXPECT_DOUBLE_EQ(got.slot_f1->value, 2.0 * 2 / (4 + 5));
  EXPECT_LT(got.slot_f1->low, got.slot_f1->value);
  EXPECT_GT(got.slot_f1->high, got.slot_f1->value);
  EXPECT_DOUBLE_EQ(got.slices[0].second.slot_f1.value(), 2.0 * 2 / (4 + 2));
  EXPECT_DOUBLE_EQ(got.slices[1].second.slot_f1.value(), 0);
  EXPECT_FALSE(got.slices[2].second.slot_f1.has_value());
}

TEST(Summary, OrderFreeMatchOfSeveralActions) {
  const std::string two = R"([{"action": "add"}, {"action": "show"}])";
  const std::string turned = R"([{"action": "show"}, {"action": "add"}])";
  const std::vector<RowScore> rows = {scored("1", two, turned, "", ""), scored("2", two, two, "", ""),
                                      scored("3", two, "[]", "", ""), scored("4", action("add", 1), "[]", "", "")};
  const auto got = summarize(rows);
  EXPECT_DOUBLE_EQ(got.exact_match.value, 0.25);
  EXPECT_DOUBLE_EQ(got.order_free_match->value, 2.0 / 3);
}

TEST(Summary, LabelsEqualScikitLearn) {
  const Json golden = read_json_file(SLMI_SOURCE_DIR "/tests/metrics/golden/labels.json");
  std::vector<RowScore> rows;
  for (size_t i = 0; i < golden.at("expected").size(); ++i) {
    const std::string got = golden.at("got")[i];
    const std::string answer = got == kNotJson ? "{" : action(got, 1);
    rows.push_back(scored(std::to_string(i), action(golden.at("expected")[i], 1), answer, "", ""));
  }
  const auto got = summarize(rows);
  EXPECT_NEAR(got.intent_accuracy->value, golden.at("accuracy"), 1e-15);
  EXPECT_NEAR(got.macro_f1->value, golden.at("macro_f1"), 1e-15);
  ASSERT_EQ(got.per_intent.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const auto& [name, score] = got.per_intent[i];
    EXPECT_EQ(name, golden.at("names")[i].get<std::string>());
    EXPECT_NEAR(score.precision, golden.at("precision")[i], 1e-15);
    EXPECT_NEAR(score.recall, golden.at("recall")[i], 1e-15);
    EXPECT_NEAR(score.f1, golden.at("f1")[i], 1e-15);
    EXPECT_EQ(score.support, golden.at("support")[i].get<int64_t>());
  }
  const auto counts = golden.at("confusion").get<std::vector<std::vector<int64_t>>>();
  EXPECT_EQ(got.confusion->counts, counts);
  EXPECT_EQ(got.confusion->answered.back(), kNotJson);
}

TEST(Summary, SameSeedSameInterval) {
  const auto rows = ten_rows();
  SummaryOptions options;
  options.bootstrap.seed = 3;
  const auto a = summarize(rows, options), b = summarize(rows, options);
  EXPECT_EQ(a.macro_f1->low, b.macro_f1->low);
  EXPECT_EQ(a.macro_f1->high, b.macro_f1->high);
}

TEST(Summary, NoRows) {
  SLMI_EXPECT_ERROR(Internal, "no rows", summarize({}));
}

TEST(Summary, FreeTextHasNoIntents) {
  const std::vector<RowScore> rows = {scored("1", "Sure, done.", "Sure, done.", "", "")};
  const auto got = summarize(rows);
  EXPECT_DOUBLE_EQ(got.exact_match.value, 1);
  EXPECT_FALSE(got.valid_json || got.intent_accuracy || got.macro_f1 || got.confusion || got.out_of_scope);
  EXPECT_TRUE(got.per_intent.empty());
}

TEST(Summary, CompareMatchesRowsById) {
  const auto reference = ten_rows();
  std::vector<RowScore> system = {
      scored("3", action("add", 3), action("add", 3), "en", "iid"),  // gained
      scored("1", action("add", 1), action("add", 2), "en", "iid"),  // lost
      scored("2", action("add", 2), action("add", 2), "en", "iid"),
      scored("unknown", action("add", 2), action("add", 2), "en", "iid"),
  };
  const auto got = compare("base", reference, system);
  EXPECT_EQ(got.reference, "base");
  EXPECT_EQ(got.n_both, 3);
  EXPECT_EQ(got.lost, 1);
  EXPECT_EQ(got.gained, 1);
  EXPECT_EQ(got.p, 1);
  ASSERT_EQ(got.flipped.size(), 2u);
  EXPECT_EQ(got.flipped[0].id, "3");
  EXPECT_EQ(got.flipped[0].flip, Flip::Gained);
  EXPECT_EQ(got.flipped[1].id, "1");
  auto twice = reference;
  twice.push_back(reference[0]);
  SLMI_EXPECT_ERROR(Internal, "'1' twice", compare("base", twice, system));
}

}  // namespace
}  // namespace slmi::metrics
