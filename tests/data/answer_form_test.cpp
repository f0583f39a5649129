// Answer forms: what is learnt from rows, and which texts can still become such an answer.
#include "slmi/data/answer_form.h"

#include <gtest/gtest.h>

#include "slmi/base/error.h"
#include "slmi/data/row_reader.h"

namespace slmi::data {
namespace {

Row row_of(const std::string& text, const std::string& answer, std::vector<std::string> catalog = {}) {
  Row row;
  row.text = text;
  row.answer = answer;
  row.has_answer = true;
  row.catalog = std::move(catalog);
  return row;
}

/// Orders in the shop's form; names are shown, never often enough for a closed set.
std::vector<Row> orders() {
  std::vector<Row> rows;
  for (int i = 0; i < 20; ++i) {
    const std::string name = "Product \"" + std::to_string(i) + "\" ä";
    const std::string quoted = dump_spaced(Json(name));
    rows.push_back(row_of("two of " + std::to_string(i),
                          R"({"action": "add", "product": )" + quoted + R"(, "quantity": 2})", {name, "Other"}));
    rows.push_back(
        row_of("all", R"({"action": "remove", "product": )" + quoted + R"(, "quantity": "all"})", {"Other", name}));
    rows.push_back(row_of("hello", R"({"action": "none", "product": null, "quantity": null})", {"Other"}));
  }
  return rows;
}

std::shared_ptr<const AnswerForm> learnt(const std::vector<Row>& rows) {
  const auto form = learn_answer_form(rows);
  EXPECT_TRUE(form);
  return std::make_shared<const AnswerForm>(form.value_or(AnswerForm{}));
}

/// "whole", "begins" or "no".
std::string fit(const AnswerCheck& check, std::string_view answer) {
  const AnswerFit f = check.fit(answer);
  return f.whole ? "whole" : f.begins ? "begins" : "no";
}

TEST(AnswerForm, LearnsActionsNamesAndQuantities) {
  const auto form = learnt(orders());
  EXPECT_EQ(form->describe(), "JSON with action (one of 3), product (as shown), quantity (as in the request)");
  const AnswerCheck check(form, "three milks", {"Oat milk 1 l", "Oat flakes"});
  EXPECT_EQ(fit(check, ""), "begins");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat milk 1 l", "quantity": 3})"), "whole");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat milk 1 l", "quantity": 3} )"), "no");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat )"), "begins");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat s)"), "no");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat flakes", "quantity": 3)"), "begins");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat flakes", "quantity": "al)"), "begins");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat flakes", "quantity": "any)"), "no");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat flakes", "quantity": 03)"), "no");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat flakes", "quantity": 1.5)"), "no");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat flakes", "quantity": 1234567890123456)"), "no");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Oat flakes"})"), "no");  // quantity is missing
  EXPECT_EQ(fit(check, R"({"product": )"), "no");                                // not in this order
  EXPECT_EQ(fit(check, R"({"action": "none", "product": nul)"), "begins");
  EXPECT_EQ(fit(check, R"({"action":"add")"), "no");  // not the spelling that training had
  EXPECT_EQ(fit(check, R"({"action": true)"), "no");
}

TEST(AnswerForm, NamesAreFreeWithoutACatalogue) {
  const AnswerCheck check(learnt(orders()), "three milks", {});
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "Mi\"lk", "quantity": 3})"), "whole");
  EXPECT_EQ(fit(check, "{\"action\": \"add\", \"product\": \"a\nb"), "no");
  EXPECT_EQ(fit(check, R"({"action": "add", "product": "a\q)"), "no");
}

TEST(AnswerForm, EscapedNamesAndCharactersCutInTwo) {
  const AnswerCheck check(learnt(orders()), "x", {"Käse \"1\""});
  const std::string whole = R"({"action": "add", "product": "Käse \"1\"", "quantity": 1})";
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_EQ(fit(check, whole.substr(0, n)), "begins") << n;
  EXPECT_EQ(fit(check, whole), "whole");
}

TEST(AnswerForm, SlotsAreCopiedAndComeInAnyOrder) {
  std::vector<Row> rows;
  for (int i = 0; i < 10; ++i) {
    const std::string a = "artist" + std::to_string(i), t = "song" + std::to_string(i);
    rows.push_back(row_of("play " + a, R"({"intent": "Play", "slots": {"artist": ")" + a + R"("}})"));
    rows.push_back(row_of("play " + t + " by " + a,
                          R"({"intent": "Play", "slots": {"track": ")" + t + R"(", "artist": ")" + a + R"("}})"));
    rows.push_back(row_of("stop", R"({"intent": "Stop", "slots": {}})"));
  }
  const auto form = learnt(rows);
  EXPECT_EQ(form->describe(),
            "JSON with intent (one of 2), slots {artist (as in the request), track (as in the request)}");
  const AnswerCheck check(form, "put on \"Zoë\" by Å", {});
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"artist": "Å", "track": "Zoë"}})"), "whole");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "\"Zoë\" by"}})"), "whole");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "Zoe)"), "no");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "")"), "no");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "Zoë", "track)"), "no");
  EXPECT_EQ(fit(check, "{\"intent\": \"Play\", \"slots\": {\"track\": \"Zo\xC3"), "begins");
  EXPECT_EQ(fit(check, "{\"intent\": \"Play\", \"slots\": {\"track\": \"Zo\xC3\""), "no");
  EXPECT_EQ(fit(check, "{\"intent\": \"Play\", \"slots\": {\"track\": \"\xAB"), "no");
  EXPECT_EQ(fit(check, R"({"intent": "Stop", "slots": {}})"), "whole");
  // All of training's slots are whole words, so these are too.
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "oë)"), "no");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "Zo")"), "no");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": " by)"), "no");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "by ")"), "no");
  EXPECT_EQ(fit(check, R"({"intent": "Play", "slots": {"track": "put on")"), "begins");
}

TEST(AnswerForm, PartsOfWordsWhereTrainingHasThem) {
  const auto form = learnt({row_of("eastward", R"({"to": "east"})"), row_of("go west", R"({"to": "west"})")});
  const AnswerCheck check(form, "northward", {});
  EXPECT_EQ(fit(check, R"({"to": "north"})"), "whole");
  EXPECT_EQ(fit(check, R"({"to": "south)"), "no");
}

TEST(AnswerForm, LabelsOfAClosedSet) {
  std::vector<Row> rows;
  for (int i = 0; i < 16; ++i) rows.push_back(row_of("x", i % 2 == 0 ? "card" : "card lost"));
  const AnswerCheck check(learnt(rows), "x", {});
  EXPECT_EQ(fit(check, "car"), "begins");
  EXPECT_EQ(fit(check, "card"), "whole");
  EXPECT_TRUE(check.fit("card").begins);
  EXPECT_EQ(fit(check, "card lost"), "whole");
  EXPECT_FALSE(check.fit("card lost").begins);
  EXPECT_EQ(fit(check, "cards"), "no");
  rows.push_back(row_of("x", "once"));  // 17 uses of 3 labels: too few to call the set closed
  EXPECT_FALSE(learn_answer_form(rows));
}

TEST(AnswerForm, NoneForFreeTextAndForOtherSpellings) {
  EXPECT_FALSE(learn_answer_form({}));
  EXPECT_FALSE(learn_answer_form({row_of("x", "a sentence"), row_of("x", R"({"a": 1})")}));
  EXPECT_FALSE(learn_answer_form({row_of("x", R"({"a":1})")}));  // answers in another spelling stay as they are
}

TEST(AnswerForm, ListsAndEveryKindOfValue) {
  const auto form = learnt({row_of("x", R"({"a": [{"b": 1}, {"b": 2}], "c": true, "d": -1.5})"),
                            row_of("x", R"({"a": [], "c": null, "d": 7})")});
  const AnswerCheck check(form, "x", {});
  EXPECT_EQ(fit(check, R"({"a": [{"b": 5}], "c": false, "d": 2.25})"), "whole");
  EXPECT_EQ(fit(check, R"({"a": [{"b": 5}, {"b": 5}, )"), "no");  // never more than two
  EXPECT_EQ(fit(check, R"({"a": [{"b": 5}, {"b": 5}])"), "begins");
  EXPECT_EQ(fit(check, R"({"a": [], "c": null, "d": -)"), "begins");
  EXPECT_EQ(fit(check, R"({"a": [], "c": null, "d": 1.)"), "begins");
  EXPECT_EQ(fit(check, R"({"a": [], "c": null, "d": 1.})"), "no");
}

TEST(AnswerForm, JsonThereAndBack) {
  for (const auto& rows : {orders(), std::vector<Row>(8, row_of("x", "label")),
                           std::vector<Row>{row_of("x", R"({"a": [{"b": 1.5}], "c": true, "d": null})")}}) {
    const auto form = learnt(rows);
    EXPECT_EQ(AnswerForm::from_json(form->to_json(), "slmi.json").to_json(), form->to_json());
  }
}

TEST(AnswerForm, BrokenJsonIsNamed) {
  const auto message = [](const char* json) -> std::string {
    try {
      AnswerForm::from_json(Json::parse(json), "run/slmi.json");
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message("3"), "run/slmi.json: answer_form: not an object");
  EXPECT_EQ(message("{}"), "run/slmi.json: answer_form: has neither labels nor json, or both");
  EXPECT_EQ(message(R"({"labels": [1]})"), "run/slmi.json: answer_form.labels: not a list of texts");
  EXPECT_EQ(message(R"({"json": {"text": "some"}})"),
            "run/slmi.json: answer_form.json.text: 'some' is none of closed, shown, copied, any");
  EXPECT_EQ(message(R"({"json": {"text": "closed"}})"),
            "run/slmi.json: answer_form.json.words: missing; 'text': 'closed' needs them");
  EXPECT_EQ(message(R"({"json": {"keys": [{"name": "a"}]}})"),
            "run/slmi.json: answer_form.json.keys[0].value: missing");
  EXPECT_EQ(message(R"({"json": {"max_items": 2}})"), "run/slmi.json: answer_form.json.item: missing");
  EXPECT_EQ(message(R"({"json": {"null": 1}})"), "run/slmi.json: answer_form.json.null: not true or false");
}

/// The bundled sets: expected answers fit the form of the training rows, and so does each of their beginnings. Four
/// rows of snips/test have two words run together ("one pmnear Vatican"), of which the answers are parts.
TEST(AnswerForm, ExpectedAnswersOfTheBundledSetsFit) {
  const std::filesystem::path data = std::filesystem::path(SLMI_SOURCE_DIR) / "data";
  const std::pair<const char*, std::vector<const char*>> sets[] = {{"snips", {"test"}},
                                                                   {"shop", {"test_iid", "test_both", "test_verb"}}};
  for (const auto& [set, tests] : sets) {
    const auto form = learnt(read_rows({data / set / "train.jsonl"}, {}).rows);
    int64_t rows = 0, beyond = 0;
    for (const char* test : tests) {
      for (const Row& row : read_rows({data / set / (std::string(test) + ".jsonl")}, {}).rows) {
        ++rows;
        const AnswerCheck check(form, row.text, row.catalog);
        beyond += check.fit(row.answer).whole ? 0 : 1;
        if (!check.fit(row.answer).whole) continue;
        for (size_t n = 0; n < row.answer.size(); ++n)
          ASSERT_TRUE(check.fit(std::string_view(row.answer).substr(0, n)).begins) << row.id << " " << n;
      }
    }
    EXPECT_EQ(beyond, std::string_view(set) == "snips" ? 4 : 0) << set << ", of " << rows << ": " << form->describe();
  }
}

}  // namespace
}  // namespace slmi::data
