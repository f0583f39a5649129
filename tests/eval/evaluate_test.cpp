// A whole evaluation: two tiny models, another system's answers, rules, leaks, slices; names in the report; thresholds.
#include <gtest/gtest.h>

#include "slmi/base/error.h"
#include "slmi/eval/evaluate.h"
#include "slmi/report/writers.h"
#include "tiny_model.h"

namespace slmi::eval {
namespace {

constexpr int64_t kMaxNew = 10;
constexpr int kRows = 24;

/// Rows of which the first model answers the even ones as expected, the second one those divisible by three.
class EvaluateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(dir_ / "a", 1, "random");
    write_tiny_model(dir_ / "b", 2, "random");
    std::vector<std::string> texts;
    for (int i = 0; i < kRows; ++i)
      texts.push_back(fmt::format("request {} {}", i, std::string(static_cast<size_t>(i % 5), 'z')));
    const auto a = answers_one_by_one(dir_ / "a", texts, "", kMaxNew);
    const auto b = answers_one_by_one(dir_ / "b", texts, "", kMaxNew);
    std::vector<Json> rows, predictions;
    for (int i = 0; i < kRows; ++i) {
      const auto at = static_cast<size_t>(i);
      ASSERT_NE(a[at], b[at]);
      ASSERT_FALSE(a[at].empty() || b[at].empty());
      expected_.push_back(i % 2 == 0 ? a[at] : i % 3 == 0 ? b[at] : "neither of the two");
      rows.push_back({{"id", fmt::format("r{}", i)},
                      {"text", texts[at]},
                      {"answer", expected_.back()},
                      {"slice", i < 8 ? "early" : "late"},
                      {"lang", "en"}});
      if (i >= 4) predictions.push_back({{"id", fmt::format("r{}", i)}, {"answer", expected_.back()}});
    }
    write_lines(dir_ / "data/rows.jsonl", rows);
    write_lines(dir_ / "other.jsonl", predictions);
    options_.models = {{"", dir_ / "a"}, {"second", dir_ / "b"}};
    options_.predictions = {{"other", dir_ / "other.jsonl"}};
    options_.rows.files = {dir_ / "data/rows.jsonl"};
    options_.measure.max_new_tokens = kMaxNew;
    options_.measure.latency_rows = 4;
    options_.measure.batch_sizes = {1, 8};
    options_.out = dir_ / "out";
    options_.worker_command = {SLMI_EVAL_WORKER};
    options_.command_line = "slmi eval ...";
  }
  EvaluateTest() { fs::create_directories(dir_ / "data"); }

  Json report() const { return read_json_file((dir_ / "out/report.json").string()); }
  Error failure() const {
    try {
      evaluate(options_);
    } catch (const Error& e) {
      return e;
    }
    return {ErrorKind::Internal, "no error"};
  }

  TemporaryDirectory dir_;
  std::vector<std::string> expected_;
  EvaluateOptions options_;
};

TEST_F(EvaluateTest, ComparesModelsAndOtherSystems) {
  evaluate(options_);
  const Json json = report();
  ASSERT_EQ(json["models"].size(), 3U);
  const Json &a = json["models"][0], &b = json["models"][1], &other = json["models"][2];
  EXPECT_EQ(a["name"], "a");
  EXPECT_EQ(b["name"], "second");
  EXPECT_EQ(other["name"], "other");
  // 0, 2, .. 22 by construction; model b: 3, 9, 15, 21.
  EXPECT_EQ(a["n"], kRows);
  EXPECT_DOUBLE_EQ(a["exact_match"]["value"].get<double>(), 12.0 / kRows);
  EXPECT_LT(a["exact_match"]["low"].get<double>(), 0.5);
  EXPECT_GT(a["exact_match"]["high"].get<double>(), 0.5);
  EXPECT_DOUBLE_EQ(b["exact_match"]["value"].get<double>(), 4.0 / kRows);
  EXPECT_EQ(other["n"], kRows - 4);
  EXPECT_DOUBLE_EQ(other["exact_match"]["value"].get<double>(), 1.0);
  EXPECT_TRUE(a["against"].is_null());
  EXPECT_EQ(b["against"]["reference"], "a");
  EXPECT_EQ(b["against"]["lost"], 12);
  EXPECT_EQ(b["against"]["gained"], 4);
  EXPECT_EQ(b["against"]["flipped"].size(), 16U);
  EXPECT_NEAR(b["against"]["p"].get<double>(), 0.0767, 5e-4);  // 2 P(X <= 4), X ~ Binomial(16, 1/2)
  EXPECT_EQ(other["against"]["n"], kRows - 4);
  EXPECT_EQ(other["against"]["lost"], 0);
  EXPECT_EQ(other["against"]["gained"], 10);  // odd rows from 5 on
  EXPECT_EQ(a["slices"]["early"]["n"], 8);
  EXPECT_DOUBLE_EQ(a["slices"]["early"]["exact_match"].get<double>(), 0.5);
}

TEST_F(EvaluateTest, ReportHasTheNamesThatChecksRelyOn) {
  evaluate(options_);
  const Json json = report();
  const Json& a = json["models"][0];
  for (const char* key :
       {"name", "n", "exact_match", "valid_json", "fields", "per_intent", "slices", "latency_ms",
        "prefill_tokens_per_s", "decode_tokens_per_s", "requests_per_s", "load_s", "rss_anon_bytes", "rss_file_bytes",
        "vram_allocator_bytes", "vram_device_bytes", "intent_accuracy", "slot_f1", "against"})
    EXPECT_TRUE(a.contains(key)) << key;
  for (const char* kind : {"ttft", "tpot", "e2e"})
    for (const char* quantile : {"p50", "p90", "p95"})
      EXPECT_GT(a["latency_ms"][kind][quantile].get<double>(), 0.0) << kind << quantile;
  EXPECT_GT(a["requests_per_s"]["1"].get<double>(), 0.0);
  EXPECT_GT(a["requests_per_s"]["8"].get<double>(), 0.0);
  EXPECT_GT(a["rss_anon_bytes"].get<int64_t>(), 0);
  EXPECT_GE(a["rss_peak_bytes"].get<int64_t>(), a["rss_anon_bytes"].get<int64_t>());
  EXPECT_TRUE(a["out_of_scope"].is_null());
  EXPECT_EQ(a["weights"], "random");
  EXPECT_EQ(a["template"], "llama3");
  EXPECT_EQ(a["tokenizer_sha256"].get<std::string>().size(), 64U);
  EXPECT_EQ(json["data"][0]["sha256"].get<std::string>().size(), 64U);
  EXPECT_EQ(json["command"], "slmi eval ...");
  EXPECT_FALSE(json["machine"]["cpu"].get<std::string>().empty());
  EXPECT_FALSE(json["build"]["libtorch"].get<std::string>().empty());
  for (const char* name : {"report.md", "report.html"}) EXPECT_GT(fs::file_size(dir_ / "out" / name), 1000U) << name;
}

// Several actions in any order, out of scope as a class, and the log-probability as a sign of it: of another system's
// answers, all worked out by hand.
TEST(EvaluateScores, OrderFreeMatchAndOutOfScopeHaveFieldsOfTheirOwn) {
  const TemporaryDirectory dir;
  const std::string none = R"({"action": "none", "product": null})", add = R"({"action": "add", "product": "milk"})";
  const std::string both = R"([{"action": "add", "product": "milk"}, {"action": "remove", "product": "tea"}])";
  const std::string swapped = R"([{"action": "remove", "product": "tea"}, {"action": "add", "product": "milk"}])";
  std::vector<Json> rows, answers;
  const auto row = [&](const std::string& expected, bool oos, const std::string& answer, double log_probability) {
    const std::string id = fmt::format("r{}", rows.size());
    rows.push_back({{"id", id}, {"text", "request " + id}, {"answer", expected}, {"oos", oos}});
    answers.push_back({{"id", id}, {"answer", answer}, {"log_probability", log_probability}});
  };
  row(add, false, add, -0.1);
  row(add, false, none, -0.5);  // taken for out of scope
  row(both, false, both, -0.2);
  row(both, false, swapped, -0.3);
  row(none, true, none, -0.4);
  row(none, true, none, -0.9);
  row(none, true, add, -0.05);  // out of scope, not seen
  write_lines(dir / "rows.jsonl", rows);
  write_lines(dir / "answers.jsonl", answers);
  EvaluateOptions options;
  options.predictions = {{"other", dir / "answers.jsonl"}};
  options.rows.files = {dir / "rows.jsonl"};
  options.baselines = Baselines::None;
  options.out = dir / "out";
  evaluate(options);
  const Json model = read_json_file((dir / "out/report.json").string())["models"][0];
  EXPECT_DOUBLE_EQ(model["exact_match"]["value"].get<double>(), 4.0 / 7);
  EXPECT_DOUBLE_EQ(model["order_free_match"].get<double>(), 1.0);  // of two rows
  const Json& outside = model["out_of_scope"];
  EXPECT_EQ(outside["n"], 3);
  EXPECT_DOUBLE_EQ(outside["precision"].get<double>(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(outside["recall"].get<double>(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(outside["f1"].get<double>(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(outside["exact_match"].get<double>(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(model["out_of_scope_auroc"].get<double>(), 7.0 / 12);  // -0.9 below 4 of 4, -0.4 below 3, -0.05 none
  EXPECT_TRUE(model["rss_peak_bytes"].is_null());

  // Without a log-probability of each answer there is nothing to draw the curve of.
  answers[0].erase("log_probability");
  write_lines(dir / "answers.jsonl", answers);
  EXPECT_FALSE(evaluate(options).models.at(0).out_of_scope_auroc.has_value());
}

TEST_F(EvaluateTest, WritesEveryAnswer) {
  evaluate(options_);
  const auto lines = read_lines(dir_ / "out/predictions.jsonl");
  ASSERT_EQ(lines.size(), static_cast<size_t>(3 * kRows - 4));
  for (size_t i = 0; i < lines.size(); ++i) {
    const Json& line = lines[i];
    const auto row = static_cast<size_t>(std::stoi(line["id"].get<std::string>().substr(1)));
    EXPECT_EQ(line["model"], i < kRows ? "a" : i < 2 * kRows ? "second" : "other");
    EXPECT_EQ(line["expected"], expected_[row]);
    EXPECT_EQ(line["match"].get<bool>(), line["answer"] == expected_[row]);
  }
  // What was written can be scored again, and gives the same.
  EvaluateOptions again = options_;
  again.models.clear();
  again.predictions = {{"second", dir_ / "out/predictions.jsonl"}};
  again.out = dir_ / "again";
  EXPECT_DOUBLE_EQ(evaluate(again).models.at(0).exact_match.value, 4.0 / kRows);
}

TEST_F(EvaluateTest, TakesReferenceLimitAndLeaks) {
  options_.reference = "second";
  options_.rows.limit = 6;
  options_.measure.latency_rows = 0;
  write_file_atomically(dir_ / "data/leaks.tsv", "id\tsplit\nr0\ttest\nr2\ttest\nr20\ttest\n");
  const auto report = evaluate(options_);
  EXPECT_FALSE(report.models.at(1).against.has_value());
  EXPECT_EQ(report.models.at(0).against->reference, "second");
  EXPECT_EQ(report.models.at(0).n, 6);
  const auto& slices = report.models.at(0).slices;
  ASSERT_EQ(slices.back().first, "without leaks");
  EXPECT_EQ(slices.back().second.n, 4);
  EXPECT_DOUBLE_EQ(slices.back().second.exact_match.value, 0.25);  // of 1, 3, 4, 5: row 4
  EXPECT_EQ(report.data.at(0).rows, 6);
}

TEST_F(EvaluateTest, RefusesWhatItCanSeeBeforeMeasuring) {
  const auto refused = [&](const std::string& part) {
    const Error e = failure();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    EXPECT_FALSE(fs::exists(dir_ / "out/report.json"));
  };
  const EvaluateOptions good = options_;
  options_.reference = "nobody";
  refused("--reference nobody");
  options_ = good;
  options_.models[0].name = "second";
  refused("'second' is given twice");
  options_ = good;
  options_.predictions[0].name.clear();
  refused("give the system a name");
  options_ = good;
  options_.thresholds = {parse_threshold("nobody:exact_match=0.5")};
  refused("nobody");
  options_ = good;
  options_.models.push_back({"gone", dir_ / "gone"});
  refused("model 'gone'");
  options_ = good;
  options_.models.clear();
  options_.predictions.clear();
  refused("nothing to evaluate");
}

TEST_F(EvaluateTest, AModelThatFailsIsNamed) {
  fs::resize_file(dir_ / "b/model.safetensors", 100);
  const Error e = failure();
  EXPECT_EQ(e.kind(), ErrorKind::Input);
  EXPECT_NE(std::string(e.what()).find("model 'second'"), std::string::npos) << e.what();
  EXPECT_NE(std::string(e.what()).find("model.safetensors"), std::string::npos) << e.what();
}

TEST_F(EvaluateTest, ThresholdsJudgeAllButTheReference) {
  options_.measure.latency_rows = 0;
  options_.reference = "second";  // right in 4 of 24 rows; a in 12, the other system in all
  options_.thresholds = {parse_threshold("exact_match=0.5")};
  const auto report = evaluate(options_);
  EXPECT_NO_THROW(check_thresholds(report, options_));
  options_.thresholds = {parse_threshold("exact_match=0.6")};
  try {
    check_thresholds(report, options_);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Findings);
    EXPECT_EQ(exit_code(e.kind()), 6);
    EXPECT_NE(std::string(e.what()).find("a: exact_match is 0.5000"), std::string::npos) << e.what();
    EXPECT_EQ(std::string(e.what()).find("second: "), std::string::npos) << e.what();
    EXPECT_EQ(std::string(e.what()).find("other: "), std::string::npos) << e.what();
  }
}

TEST(EvaluateBaselines, StandBesideTheModelsOnShopRows) {
  TemporaryDirectory dir;
  const fs::path source = fs::path(SLMI_SOURCE_DIR) / "data/shop";
  EvaluateOptions options;
  options.rows.files = {source / "test_iid.jsonl", source / "test_both.jsonl"};
  options.rows.limit = 40;
  options.train_data = {source / "train.jsonl"};
  write_lines(dir / "p.jsonl", {{{"id", "shop-test_iid-0001"}, {"answer", "x"}}});
  options.predictions = {{"other", dir / "p.jsonl"}};
  options.out = dir / "out";
  const auto report = evaluate(options);
  ASSERT_EQ(report.models.size(), 3U);
  EXPECT_EQ(report.models[1].name, "bag-of-words");
  EXPECT_EQ(report.models[2].name, "rules");
  EXPECT_EQ(report.models[2].n, 80);
  EXPECT_GT(report.models[1].exact_match.value, 0.3);
  EXPECT_GT(report.models[2].exact_match.value, 0.5);
  EXPECT_EQ(report.models[1].slices.size(), 2U);
  EXPECT_EQ(report.models[1].weights, report::Weights::None);
  ASSERT_EQ(report.data.size(), 3U);
  EXPECT_EQ(report.data[2].use, "train");
  options.baselines = Baselines::None;
  EXPECT_EQ(evaluate(options).models.size(), 1U);
}

}  // namespace
}  // namespace slmi::eval
