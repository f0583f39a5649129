// Scores of single answers, each verdict worked out by hand.
#include "slmi/metrics/scoring.h"

#include <gtest/gtest.h>

namespace slmi::metrics {
namespace {

Json json(std::string_view text) {
  return parse_json(text, "test");
}

ExpectedRow row_of(std::string answer, std::string intent = "") {
  ExpectedRow row;
  row.id = "r1";
  row.answer = std::move(answer);
  row.intent = std::move(intent);
  return row;
}

const char* const kShop = R"({"action": "add", "product": "Oat milk 1 l", "quantity": 2})";
const char* const kSnips = R"({"intent": "PlayMusic", "slots": {"artist": "Nina", "genre": ["soul", "jazz"]}})";

using Fields = std::vector<std::pair<std::string, bool>>;

TEST(Scoring, TheLastOfTwoEqualKeysCounts) {
  const auto row = row_of(R"({"intent": "Play", "slots": {"artist": "Nina"}})", "Play");
  const auto score = score_row(row, R"({"intent": "Play", "slots": {"artist": "Miles", "artist": "Nina"}})");
  EXPECT_TRUE(score.exact_match);
  EXPECT_EQ(score.got_intent, "Play");
  EXPECT_FALSE(score_row(row, R"({"intent": "Play", "slots": {"artist": "Nina", "artist": "Miles"}})").exact_match);
}

TEST(Scoring, JsonEqual) {
  EXPECT_TRUE(json_equal(json(R"({"a": 1, "b": [true, null]})"), json(R"({"b": [true, null], "a": 1})")));
  EXPECT_FALSE(json_equal(json(R"({"a": 1})"), json(R"({"a": 1, "b": null})")));
  EXPECT_FALSE(json_equal(json(R"({"a": 1, "b": 2})"), json(R"({"a": 1, "c": 2})")));
  EXPECT_FALSE(json_equal(json("[1, 2]"), json("[2, 1]")));
  EXPECT_FALSE(json_equal(json("[1]"), json("[1, 1]")));
  EXPECT_TRUE(json_equal(json(R"({"a": {"x": 1, "y": 2}})"), json(R"({"a": {"y": 2, "x": 1}})")));
  EXPECT_FALSE(json_equal(json("\"2\""), json("2")));
  EXPECT_FALSE(json_equal(json("1"), json("true")));
  EXPECT_FALSE(json_equal(json("true"), json("1")));
  EXPECT_FALSE(json_equal(json("null"), json("false")));
  EXPECT_TRUE(json_equal(json(R"("\u00e4")"), json("\"ä\"")));
}

TEST(Scoring, NumbersAreEqualByValue) {
  EXPECT_TRUE(json_equal(json("2"), json("2.0")));
  EXPECT_TRUE(json_equal(json("2e0"), json("2")));
  EXPECT_TRUE(json_equal(json("-3"), json("-3.0")));
  EXPECT_TRUE(json_equal(json("0"), json("-0.0")));
  EXPECT_TRUE(json_equal(Json(int64_t{5}), Json(uint64_t{5})));
  EXPECT_FALSE(json_equal(json("2"), json("2.5")));
  EXPECT_FALSE(json_equal(json("-1"), json("18446744073709551615")));
  EXPECT_FALSE(json_equal(json("-1"), json("18446744073709551615.0")));
  EXPECT_FALSE(json_equal(json("9007199254740993"), json("9007199254740992.0")));
  EXPECT_FALSE(json_equal(json("-9007199254740993"), json("-9007199254740992.0")));
  EXPECT_FALSE(json_equal(json("1"), json("1e300")));
}

TEST(Scoring, ExactMatchOfJsonComparesParsedValues) {
  EXPECT_TRUE(is_exact_match(kShop, kShop));
  EXPECT_TRUE(is_exact_match(kShop, "\n{\"quantity\":2,\"action\":\"add\",\"product\":\"Oat milk 1 l\"} "));
  EXPECT_FALSE(is_exact_match(kShop, R"({"action": "add", "product": "Oat milk 1 l", "quantity": "2"})"));
  EXPECT_FALSE(is_exact_match(kShop, R"({"action": "add", "product": "oat milk 1 l", "quantity": 2})"));
  EXPECT_FALSE(is_exact_match(kShop, std::string(kShop) + "}"));
  EXPECT_FALSE(
      is_exact_match(kShop, R"({"action": "add", "action": "remove", "product": "Oat milk 1 l", "quantity": 2})"));
  EXPECT_FALSE(is_exact_match(kShop, ""));
  EXPECT_FALSE(is_exact_match(kShop, "{\"action\": \"add\", \"product\": \"\xFF\"}"));
  EXPECT_FALSE(is_exact_match(kShop, std::string(100000, '[')));
}

TEST(Scoring, ExactMatchOfALabelIsTheTrimmedText) {
  EXPECT_TRUE(is_exact_match("PlayMusic", " PlayMusic\n"));
  EXPECT_FALSE(is_exact_match("PlayMusic", "playmusic"));
  EXPECT_FALSE(is_exact_match("PlayMusic", "\"PlayMusic\""));
  EXPECT_TRUE(is_exact_match("12", "12"));
  EXPECT_FALSE(is_exact_match("12", "12.0"));             // a number alone is text
  EXPECT_TRUE(is_exact_match("{not json", "{not json"));  // an expected answer that only looks like JSON
  EXPECT_FALSE(is_exact_match("{not json", "{not  json"));
}

TEST(Scoring, ShopAnswer) {
  auto row = row_of(kShop, "add");
  row.lang = "en";
  row.slice = "test_iid";
  row.domain = "shop";
  const auto right = score_row(row, kShop);
  EXPECT_TRUE(right.exact_match && right.string_match && right.valid_json.value());
  EXPECT_EQ(right.id, "r1");
  EXPECT_EQ(right.lang, "en");
  EXPECT_EQ(right.slice, "test_iid");
  EXPECT_EQ(right.domain, "shop");
  EXPECT_EQ(right.expected_intent, "add");
  EXPECT_EQ(right.got_intent, "add");
  EXPECT_FALSE(right.slots.has_value());
  EXPECT_FALSE(right.order_free_match.has_value());
  EXPECT_EQ(right.fields, (Fields{{"action", true}, {"product", true}, {"quantity", true}}));

  const auto wrong = score_row(row, R"({"product": "Oat milk 1 l", "action": "remove", "size": 2})");
  EXPECT_FALSE(wrong.exact_match || wrong.string_match);
  EXPECT_TRUE(wrong.valid_json.value());
  EXPECT_EQ(wrong.got_intent, "remove");
  EXPECT_EQ(wrong.fields, (Fields{{"action", false}, {"product", true}, {"quantity", false}}));
}

TEST(Scoring, StringMatchIsByteForByte) {
  const auto spaced = score_row(row_of(kShop), R"({"action":"add","product":"Oat milk 1 l","quantity":2})");
  EXPECT_TRUE(spaced.exact_match);
  EXPECT_FALSE(spaced.string_match);
  EXPECT_FALSE(score_row(row_of("add", "add"), "add ").string_match);
  EXPECT_TRUE(score_row(row_of("add", "add"), "add").string_match);
}

TEST(Scoring, AnswersThatAreNotTheForm) {
  const auto prose = score_row(row_of(kShop), "Sure! add");
  EXPECT_FALSE(prose.exact_match);
  EXPECT_FALSE(prose.valid_json.value());
  EXPECT_EQ(prose.got_intent, kNotJson);
  EXPECT_EQ(prose.fields, (Fields{{"action", false}, {"product", false}, {"quantity", false}}));
  EXPECT_EQ(score_row(row_of(kShop), R"({"quantity": 2})").got_intent, kNoIntent);
  EXPECT_EQ(score_row(row_of(kShop), R"({"action": 3})").got_intent, kNoIntent);
  const auto number = score_row(row_of(kShop), "7");
  EXPECT_TRUE(number.valid_json.value());
  EXPECT_EQ(number.got_intent, kNoIntent);
}

TEST(Scoring, NullIsNotTheSameAsAbsent) {
  const std::string none = R"({"action": "none", "product": null, "quantity": null})";
  auto row = row_of(none, "oos");
  row.oos = true;
  const auto got = score_row(row, R"({"action": "none", "product": null})");
  EXPECT_TRUE(got.oos);
  EXPECT_EQ(got.expected_intent, "none");
  EXPECT_FALSE(got.exact_match);
  EXPECT_EQ(got.fields, (Fields{{"action", true}, {"product", true}, {"quantity", false}}));
}

TEST(Scoring, SlotsCountPairsOfNameAndValue) {
  auto row = row_of(kSnips, "PlayMusic");
  row.has_slots = true;
  const auto right =
      score_row(row, R"({"intent": "PlayMusic", "slots": {"genre": ["soul", "jazz"], "artist": "Nina"}})");
  EXPECT_TRUE(right.exact_match);
  EXPECT_EQ(right.slots->expected, 3);
  EXPECT_EQ(right.slots->answered, 3);
  EXPECT_EQ(right.slots->both, 3);
  // Wrong name for Nina, one genre of two, one invented pair: 1 of 3 expected, 1 of 3 answered.
  const auto part =
      score_row(row, R"({"intent": "AddToPlaylist", "slots": {"track": "Nina", "genre": "jazz", "year": "9"}})");
  EXPECT_EQ(part.slots->expected, 3);
  EXPECT_EQ(part.slots->answered, 3);
  EXPECT_EQ(part.slots->both, 1);
  EXPECT_DOUBLE_EQ(slot_f1(*part.slots).value(), 1.0 / 3);
  EXPECT_EQ(part.fields, (Fields{{"intent", false}, {"slots", false}}));
  EXPECT_EQ(part.expected_intent, "PlayMusic");
  EXPECT_EQ(part.got_intent, "AddToPlaylist");
  // Order inside an array matters to exact match, not to pairs.
  const auto turned =
      score_row(row, R"({"intent": "PlayMusic", "slots": {"artist": "Nina", "genre": ["jazz", "soul"]}})");
  EXPECT_FALSE(turned.exact_match);
  EXPECT_EQ(turned.slots->both, 3);
}

TEST(Scoring, EqualPairsCountAsOftenAsTheyOccur) {
  auto row = row_of(R"({"intent": "I", "slots": {"a": ["x", "x"]}})");
  const auto got = score_row(row, R"({"intent": "I", "slots": {"a": ["x", "x", "x"]}})");
  EXPECT_EQ(got.slots->both, 2);
  EXPECT_EQ(got.slots->answered, 3);
  EXPECT_EQ(score_row(row, R"({"intent": "I", "slots": {"a": "x"}})").slots->both, 1);
}

TEST(Scoring, SlotsThatAreMissingOrOdd) {
  auto row = row_of(kSnips);
  for (const char* answer :
       {"", "no", R"({"intent": "PlayMusic"})", R"({"slots": 3})", R"([{"slots": {"artist": "Nina"}}])"}) {
    const auto got = score_row(row, answer);
    EXPECT_EQ(got.slots->expected, 3) << answer;
    EXPECT_EQ(got.slots->answered, 0) << answer;
    EXPECT_EQ(got.slots->both, 0) << answer;
  }
  const auto typed =
      score_row(row_of(R"({"intent": "I", "slots": {"n": "5"}})"), R"({"intent": "I", "slots": {"n": 5}})");
  EXPECT_EQ(typed.slots->answered, 1);
  EXPECT_EQ(typed.slots->both, 0);  // "5" and 5 differ
  const auto empty = score_row(row_of(R"({"intent": "I", "slots": {}})"), R"({"intent": "I", "slots": {}})");
  EXPECT_EQ(empty.slots->expected, 0);
  EXPECT_FALSE(slot_f1(*empty.slots).has_value());
}

TEST(Scoring, LabelRows) {
  const auto right = score_row(row_of("transfer", "transfer"), " transfer ");
  EXPECT_TRUE(right.exact_match);
  EXPECT_FALSE(right.valid_json.has_value());
  EXPECT_TRUE(right.fields.empty());
  EXPECT_EQ(right.expected_intent, "transfer");
  EXPECT_EQ(right.got_intent, "transfer");
  EXPECT_EQ(score_row(row_of("transfer"), "balance").expected_intent, "transfer");
  EXPECT_EQ(score_row(row_of("transfer"), "balance").got_intent, "balance");
  EXPECT_EQ(score_row(row_of("transfer"), " ").got_intent, kNoIntent);
  EXPECT_EQ(score_row(row_of("set alarm", "set alarm"), "x").expected_intent, "set alarm");
  // Free text shows no intent, whatever the row's is.
  EXPECT_FALSE(score_row(row_of("Sure, done."), "Sure, done.").expected_intent.has_value());
  const auto other = score_row(row_of("Done", "transfer"), "Done");
  EXPECT_TRUE(other.exact_match);
  EXPECT_FALSE(other.expected_intent.has_value());
  EXPECT_EQ(other.got_intent, "");
}

TEST(Scoring, SeveralActions) {
  const auto row = row_of(R"([{"action": "add", "product": "A"}, {"action": "remove", "product": "B"}])", "multi");
  const auto turned = score_row(row, R"([{"product": "B", "action": "remove"}, {"product": "A", "action": "add"}])");
  EXPECT_FALSE(turned.exact_match);
  EXPECT_TRUE(turned.order_free_match.value());
  EXPECT_EQ(turned.expected_intent, kMultiIntent);
  EXPECT_EQ(turned.got_intent, kMultiIntent);
  EXPECT_EQ(turned.fields, (Fields{{"action", false}, {"product", false}}));
  const auto one = score_row(row, R"({"action": "add", "product": "A"})");
  EXPECT_FALSE(one.order_free_match.value());
  EXPECT_EQ(one.got_intent, "add");
  const auto half = score_row(row, R"([{"action": "add", "product": "A"}, {"action": "remove", "product": "A"}])");
  EXPECT_FALSE(half.order_free_match.value());
  EXPECT_EQ(half.fields, (Fields{{"action", true}, {"product", false}}));
  // A pair cannot be used twice.
  const auto twice = row_of(R"([{"a": 1}, {"a": 1}, {"a": 2}])");
  EXPECT_FALSE(score_row(twice, R"([{"a": 1}, {"a": 2}, {"a": 2}])").order_free_match.value());
  EXPECT_TRUE(score_row(twice, R"([{"a": 2}, {"a": 1}, {"a": 1.0}])").order_free_match.value());
}

}  // namespace
}  // namespace slmi::metrics
