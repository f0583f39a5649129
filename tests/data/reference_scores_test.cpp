// The plain baseline: its look-ups by hand, its classifier against scikit-learn (make_reference_golden.py), its scores
// on the bundled sets.
#include "slmi/data/reference_scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "../../src/data/reference_scores_classifier.h"
#include "../../src/data/reference_scores_shop.h"
#include "../../src/data/reference_scores_slots.h"
#include "../../src/data/reference_scores_text.h"
#include "../base/expect_error.h"
#include "slmi/base/parallel.h"
#include "slmi/data/row_reader.h"
#include "slmi/metrics/summary.h"

namespace slmi::data {
namespace {

const std::filesystem::path kData = std::filesystem::path(SLMI_SOURCE_DIR) / "data";

Json json(std::string_view text) {
  return parse_json(text, "test");
}

Row label_row(std::string text, std::string intent) {
  Row row;
  row.text = std::move(text);
  row.intent = row.answer = std::move(intent);
  return row;
}

Row slot_row(std::string text, std::string intent, std::string_view slots) {
  Row row;
  row.text = std::move(text);
  row.intent = std::move(intent);
  row.has_slots = true;
  row.slots = json(slots);
  row.answer = intent_answer(row.intent, true, row.slots);
  return row;
}

Row shop_row(std::string text, std::string answer = "") {
  Row row;
  row.text = std::move(text);
  row.lang = "en";
  row.catalog = {"Oat milk 1 l", "Oat milk 2 l", "Green apples"};
  row.answer = std::move(answer);
  return row;
}

metrics::Summary score(const BagOfWords& model, const RowSet& set) {
  std::vector<metrics::RowScore> rows;
  for (const Row& row : set.rows) {
    const metrics::ExpectedRow expected{row.id,   row.answer, row.intent, row.has_slots, row.slots,
                                        row.lang, row.domain, row.slice,  row.oos};
    rows.push_back(metrics::score_row(expected, model.predict(row)));
  }
  return metrics::summarize(rows);
}

TEST(ReferenceText, WordsAndMarksKeepTheirPlaces) {
  const std::string text = "Add ÄPFEL, don't!";
  const auto tokens = tokenize_text(text);
  std::vector<std::string> lower, original;
  for (const auto& token : tokens) {
    lower.push_back(token.text);
    original.push_back(text.substr(token.begin, token.end - token.begin));
  }
  EXPECT_EQ(lower, (std::vector<std::string>{"add", "äpfel", ",", "don", "'", "t", "!"}));
  EXPECT_EQ(original, (std::vector<std::string>{"Add", "ÄPFEL", ",", "don", "'", "t", "!"}));
  EXPECT_TRUE(tokens[1].is_word);
  EXPECT_FALSE(tokens[2].is_word);
  EXPECT_TRUE(tokenize_text(" \t\n").empty());
  EXPECT_EQ(tokenize_text("×É")[0].text, "×é");  // the multiplication sign has no lower case
}

TEST(ReferenceText, Diacritics) {
  EXPECT_EQ(without_diacritics("größe, müsli, jabón, niño"), "grosse, musli, jabon, nino");
  EXPECT_EQ(without_diacritics("čaj ÷"), "čaj ÷");  // other letters and signs stay
}

TEST(SlotValues, LongestValueFirstInTheTextsOwnSpelling) {
  SlotValues values;
  values.learn("play blue", json(R"({"album": "blue"})"));
  values.learn("play blue train", json(R"({"track": "blue train"})"));
  values.learn("play nina", json(R"({"artist": "Nina"})"));
  values.finish();
  EXPECT_EQ(values.find("Play BLUE Train by nina."), json(R"({"track": "BLUE Train", "artist": "nina"})"));
  EXPECT_EQ(values.find("a blue, train"), json(R"({"album": "blue"})"));  // a mark is a token too
  EXPECT_EQ(values.find("bluetrain"), json("{}"));                        // whole tokens only
  EXPECT_EQ(values.find("nina and Blue and nina"), json(R"({"artist": ["nina", "nina"], "album": "Blue"})"));
  EXPECT_EQ(values.find("nina nina nina"), json(R"({"artist": ["nina", "nina", "nina"]})"));
  EXPECT_EQ(values.find(""), json("{}"));
}

TEST(SlotValues, AValueIsTheSlotThatItMostOftenWas) {
  SlotValues values;
  values.learn("rock", json(R"({"playlist": "rock"})"));
  values.learn("rock", json(R"({"genre": ["rock"]})"));
  values.learn("rock", json(R"({"genre": "rock"})"));
  values.learn("soul", json(R"({"style": "soul"})"));
  values.learn("soul", json(R"({"genre": "soul"})"));
  values.finish();
  EXPECT_EQ(values.find("rock"), json(R"({"genre": "rock"})"));
  EXPECT_EQ(values.find("soul"), json(R"({"genre": "soul"})"));  // a tie: the first by name
}

TEST(SlotValues, WordsThatAreSeldomASlotAreNone) {
  SlotValues values;
  values.learn("play this by that", json(R"({"track": "this"})"));
  values.learn("play this one", json("{}"));
  values.learn("play that this", json("{}"));
  values.learn("that", json(R"({"track": "that"})"));
  values.learn("that", json(R"({"track": "that"})"));
  values.finish();
  EXPECT_EQ(values.find("this"), json("{}"));                    // a slot once of three times
  EXPECT_EQ(values.find("that"), json(R"({"track": "that"})"));  // twice of four times
}

TEST(ReferenceShop, NearestName) {
  const std::vector<std::string> catalog = {"Cola 1 l", "Cola 2 l", "Green apples"};
  const auto at = [&](std::string_view text) { return nearest_name(shop_words_of(text), catalog); };
  EXPECT_EQ(at("two bottles of cola 2 l please").index, 1u);
  EXPECT_EQ(at("two bottles of cola 2 l please").begin, 3u);
  EXPECT_EQ(at("two bottles of cola 2 l please").end, 6u);
  EXPECT_EQ(at("two bottles of cola 2 l please").distance, 0);
  EXPECT_EQ(at("some green aplpes").index, 2u);
  EXPECT_DOUBLE_EQ(at("some green aplpes").distance, 1.0 / 11);  // one swap, 11 letters
  EXPECT_DOUBLE_EQ(nearest_name(shop_words_of("colas"), {"Cola"}).distance, 1.0 / 5);
  EXPECT_DOUBLE_EQ(nearest_name(shop_words_of("col"), {"Cola"}).distance, 1.0 / 4);
  EXPECT_TRUE(at("some green aplpes").is_said());
  EXPECT_FALSE(at("sing me a song").is_said());
  EXPECT_EQ(at("").distance, 1);
  EXPECT_EQ(nearest_name(shop_words_of("cola"), {}).distance, 1);
  EXPECT_EQ(nearest_name(shop_words_of("GRÜNE ÄPFEL"), {"Grüne Äpfel"}).distance, 0);
}

TEST(ReferenceShop, WithoutName) {
  const std::vector<std::string> catalog = {"Green apples"};
  const auto seen = [&](std::string_view text) {
    const auto words = shop_words_of(text);
    return without_name(text, words, nearest_name(words, catalog));
  };
  EXPECT_EQ(seen("Add 2 green apples, please"), "Add 2 \uE000, please");
  EXPECT_EQ(seen("Green apples"), "\uE000");
  EXPECT_EQ(seen("Sing a song"), "Sing a song");
}

struct QuantityCase {
  const char* text;
  const char* lang;
  const char* name;
  const char* want;
};

TEST(ReferenceShop, Quantity) {
  const QuantityCase cases[] = {
      {"add green apples", "en", "Green apples", "1"},
      {"add three green apples", "en", "Green apples", "3"},
      {"add 12 bags of green apples", "en", "Green apples", "12"},
      {"add 3x green apples", "en", "Green apples", "3"},
      {"add green apples x4", "en", "Green apples", "4"},
      {"add two, no, five green apples", "en", "Green apples", "5"},
      {"add half a dozen green apples", "en", "Green apples", "6"},
      {"add a dozen green apples", "en", "Green apples", "12"},
      {"two times: add a dozen green apples", "en", "Green apples", "12"},
      {"drop all the green apples", "en", "Green apples", "\"all\""},
      {"hi all, drop the green apples", "en", "Green apples", "1"},
      {"For 13 guests. Add green apples", "en", "Green apples", "1"},
      {"add 4 bags, 500 g each, of rice 500 g", "en", "Rice 500 g", "4"},
      {"add 0 green apples", "en", "Green apples", "1"},
      {"add 12345678901234567890 green apples", "en", "Green apples", "1"},
      {"pack zwölf grüne Äpfel ein", "de", "Grüne Äpfel", "12"},
      {"ein halbes Dutzend grüne Äpfel", "de", "Grüne Äpfel", "6"},
      {"streich alle grünen Äpfel", "de", "Grüne Äpfel", "\"all\""},
      {"pon 6 uds. de manzanas verdes", "es", "Manzanas verdes", "6"},
      {"media docena de manzanas verdes", "es", "Manzanas verdes", "6"},
      {"sechs mele verdi", "it", "Mele verdi", "6"},  // an unknown language: words of all known ones
  };
  for (const auto& it : cases) {
    SCOPED_TRACE(it.text);
    const auto words = shop_words_of(it.text);
    const auto name = nearest_name(words, {it.name});
    ASSERT_TRUE(name.is_said());
    EXPECT_EQ(nearest_quantity(it.text, words, name, it.name, it.lang), json(it.want));
  }
}

class ReferenceClassifier : public ::testing::Test {
 protected:
  void SetUp() override {
    const RowSet set = read_rows(kData / "snips" / "train.jsonl");
    const auto plain = [](const Row& row) {
      return std::all_of(row.text.begin(), row.text.end(),
                         [](unsigned char c) { return c == ' ' || (c < 0x80 && std::isalnum(c) != 0); });
    };
    int64_t i = 0;
    for (const Row& row : set.rows) {
      if (!plain(row)) continue;
      const auto names = golden_.at("names").get<std::vector<std::string>>();
      const auto name = std::find(names.begin(), names.end(), row.intent);
      ASSERT_NE(name, names.end());
      const bool held_out = i++ % 4 == 0;
      (held_out ? held_texts_ : texts_).push_back(row.text);
      (held_out ? held_classes_ : classes_).push_back(static_cast<int32_t>(name - names.begin()));
    }
    ASSERT_EQ(static_cast<int64_t>(texts_.size()), golden_.at("num_train").get<int64_t>());
    ASSERT_EQ(static_cast<int64_t>(held_texts_.size()), golden_.at("num_held_out").get<int64_t>());
  }
  Json golden_ = read_json_file(SLMI_SOURCE_DIR "/tests/data/golden/reference_scores.json");
  std::vector<std::string> texts_, held_texts_;
  std::vector<int32_t> classes_, held_classes_;
};

TEST_F(ReferenceClassifier, ReachesScikitLearnsOptimum) {
  const auto model = NgramClassifier::fit(texts_, classes_, 7, {});
  EXPECT_EQ(model.num_features(), golden_.at("num_features").get<int64_t>());
  const double best = golden_.at("objective");
  const double got = model.objective(texts_, classes_, BagOfWordsOptions{}.c);
  EXPECT_GE(got, best - 1e-6);   // it is the minimum
  EXPECT_LE(got, best * 1.005);  // the last steps of SGD still jitter; measured 0.17 % above
  double farthest = 0;
  for (size_t i = 0; i < golden_.at("probabilities").size(); ++i) {
    const auto p = model.probabilities(held_texts_[i]);
    ASSERT_EQ(p.size(), 7u);
    for (size_t c = 0; c < p.size(); ++c)
      farthest = std::max(farthest, std::abs(p[c] - golden_.at("probabilities")[i][c].get<double>()));
  }
  EXPECT_LE(farthest, 0.02);  // measured 0.0057
  int64_t right = 0;
  for (size_t i = 0; i < held_texts_.size(); ++i) right += model.classify(held_texts_[i]) == held_classes_[i] ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(right), golden_.at("right").get<double>(), 3);
}

TEST_F(ReferenceClassifier, SameRowsSameBitsWithAnyNumberOfThreads) {
  const int before = num_threads();
  BagOfWordsOptions options;
  options.epochs = 2;
  set_num_threads(1);
  const auto one = NgramClassifier::fit(texts_, classes_, 7, options);
  set_num_threads(3);
  const auto three = NgramClassifier::fit(texts_, classes_, 7, options);
  set_num_threads(before);
  for (const auto& text : held_texts_) EXPECT_EQ(one.probabilities(text), three.probabilities(text));
  options.seed = 1;
  const auto other = NgramClassifier::fit(texts_, classes_, 7, options);
  EXPECT_NE(one.probabilities(held_texts_[0]), other.probabilities(held_texts_[0]));
}

TEST(BagOfWords, BareLabels) {
  const std::vector<Row> rows = {label_row("wire some money", "transfer"), label_row("send money to bob", "transfer"),
                                 label_row("how much do i have", "balance"), label_row("how much is left", "balance")};
  ASSERT_TRUE(BagOfWords::applies_to(rows));
  const auto model = BagOfWords::fit(rows);
  EXPECT_EQ(model.num_classes(), 2);
  EXPECT_EQ(model.predict(label_row("please send money", "")), "transfer");
  EXPECT_EQ(model.predict(label_row("how much money is left", "")), "balance");
  EXPECT_EQ(model.predict_intent(label_row("how much", "")), "balance");
}

TEST(BagOfWords, OtherAnswersAreTheMostFrequentOfTheIntent) {
  std::vector<Row> rows = {label_row("hello there", "greet"), label_row("hello you", "greet"),
                           label_row("hello hello", "greet"), label_row("hello all", "greet"),
                           label_row("goodbye now", "part"),  label_row("goodbye then", "part")};
  const char* const answers[] = {"Aha.", "Hi!", "Welcome.", "Hi!", "Bye.", "Bye."};
  for (size_t i = 0; i < rows.size(); ++i) rows[i].answer = answers[i];
  const auto model = BagOfWords::fit(rows);
  EXPECT_EQ(model.predict(label_row("hello world", "")), "Hi!");
  EXPECT_EQ(model.predict(label_row("goodbye world", "")), "Bye.");
}

TEST(BagOfWords, SlotsOfThePredictedIntentAlone) {
  const std::vector<Row> rows = {
      slot_row("play some jazz", "PlayMusic", R"({"genre": "jazz"})"),
      slot_row("play nina now", "PlayMusic", R"({"artist": "nina"})"),
      slot_row("weather in rome", "GetWeather", R"({"city": "rome"})"),
      slot_row("weather for jazz", "GetWeather", R"({"place": "jazz"})"),
  };
  const auto model = BagOfWords::fit(rows);
  Row asked = slot_row("Play Jazz by Nina in Rome", "", "{}");
  EXPECT_EQ(model.predict(asked), R"({"intent": "PlayMusic", "slots": {"genre": "Jazz", "artist": "Nina"}})");
  asked.text = "weather here";
  EXPECT_EQ(model.predict(asked), R"({"intent": "GetWeather", "slots": {}})");
}

TEST(BagOfWords, ShopRows) {
  const auto order = [](const char* action, const char* product, int quantity) {
    return fmt::format(R"({{"action": "{}", "product": "{}", "quantity": {}}})", action, product, quantity);
  };
  const std::string none = R"({"action": "none", "product": null, "quantity": null})";
  const std::vector<Row> rows = {
      shop_row("add two oat milk 1 l", order("add", "Oat milk 1 l", 2)),
      shop_row("please add green apples", order("add", "Green apples", 1)),
      shop_row("drop the oat milk 2 l", order("remove", "Oat milk 2 l", 1)),
      shop_row("please drop three green apples", order("remove", "Green apples", 3)),
      shop_row("sing me a song", none),
      shop_row("sing about green apples", none),
  };
  const auto model = BagOfWords::fit(rows);
  EXPECT_EQ(model.num_classes(), 3);
  EXPECT_EQ(model.predict(shop_row("please add five oat mlik 2 l")), order("add", "Oat milk 2 l", 5));
  EXPECT_EQ(model.predict(shop_row("Drop a dozen green apples")), order("remove", "Green apples", 12));
  EXPECT_EQ(model.predict(shop_row("sing of oat milk 1 l")), none);
  EXPECT_EQ(model.predict(shop_row("add two toothbrushes")), none);  // no such name is shown
  Row bare = shop_row("add two oat milk 1 l");
  bare.catalog.clear();
  EXPECT_EQ(model.predict(bare), none);
}

TEST(BagOfWords, NothingToLearn) {
  const std::vector<Row> rows = {label_row("what is this", ""), label_row("and that", "")};
  EXPECT_FALSE(BagOfWords::applies_to(rows));
  SLMI_EXPECT_ERROR(Input, "none of 2 rows", BagOfWords::fit(rows));
  EXPECT_FALSE(BagOfWords::applies_to({}));
}

// Bounds about one percentage point around what was measured; a change beyond them must be looked at.
void expect_percent(double got, double low, double high) {
  EXPECT_GE(100 * got, low);
  EXPECT_LE(100 * got, high);
}

TEST(BagOfWords, BundledSnips) {
  const auto model = BagOfWords::fit(read_rows(kData / "snips" / "train.jsonl").rows);
  const auto got = score(model, read_rows(kData / "snips" / "test.jsonl"));
  EXPECT_EQ(got.n, 700);
  EXPECT_EQ(got.valid_json->value, 1);
  expect_percent(got.intent_accuracy->value, 97, 98.5);
  expect_percent(got.exact_match.value, 21, 23);
  expect_percent(got.slot_f1->value, 72, 74.5);
}

TEST(BagOfWords, BundledShop) {
  const auto model = BagOfWords::fit(read_rows(kData / "shop" / "train.jsonl").rows);
  for (const auto& [slice, low, high] :
       {std::tuple{"test_iid", 95.5, 97.5}, std::tuple{"test_both", 92.8, 94.8}, std::tuple{"test_verb", 44.0, 46.0}}) {
    SCOPED_TRACE(slice);
    const auto got = score(model, read_rows(kData / "shop" / (std::string(slice) + ".jsonl")));
    EXPECT_EQ(got.n, 600);
    EXPECT_EQ(got.valid_json->value, 1);
    expect_percent(got.exact_match.value, low, high);
  }
}

TEST(BagOfWords, AllOfSnips) {
  const char* shared = std::getenv("SLMI_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "SLMI_SHARED_DATA, the folder of public data sets, is not set";
  const std::filesystem::path snips = std::filesystem::path(shared) / "snips";
  const auto train = read_rows(snips / "train.jsonl");
  EXPECT_EQ(train.rows.size(), 13084u);
  const auto got = score(BagOfWords::fit(train.rows), read_rows(snips / "test.jsonl"));
  expect_percent(got.intent_accuracy->value, 97.8, 99.2);
  expect_percent(got.exact_match.value, 31.4, 33.4);
  expect_percent(got.slot_f1->value, 79, 81.2);
}

}  // namespace
}  // namespace slmi::data
