// Reports: the JSON names that outside checks rely on, round trips, golden Markdown and terminal text, safe HTML.
#include "slmi/report/report.h"
#include "slmi/base/atomic_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "example_report.h"
#include "slmi/base/error.h"
#include "slmi/report/writers.h"

namespace slmi::report {
namespace {

/// One model, little measured: small enough for a golden text.
EvalReport small_report() {
  EvalReport report;
  report.title = "A_B";
  report.date = "2024-01-02T03:04:05Z";
  report.machine.cores = 2;
  ModelReport a;
  a.name = "a";
  a.n = 1200;
  a.exact_match = {0.5, 0.471, 0.529};
  a.latency_ms.e2e = {1.5, 20, 300, {}};
  a.rss_anon_bytes = 512;
  ModelReport b = a;
  b.name = "b|c";
  b.exact_match = {0.25, {}, {}};
  b.latency_ms = {};
  b.weights = Weights::Random;
  b.against = Against{"a", 1200, 310, 10, 0.03125, 0.02, {}};
  report.models = {a, b};
  return report;
}

TEST(ReportJson, HoldsTheNamesThatChecksRelyOn) {
  auto json = to_json(example_report());
  ASSERT_EQ(json["models"].size(), 3u);
  auto& m = json["models"][1];
  for (const char* name : {"name",
                           "n",
                           "exact_match",
                           "valid_json",
                           "fields",
                           "per_intent",
                           "slices",
                           "latency_ms",
                           "prefill_tokens_per_s",
                           "decode_tokens_per_s",
                           "requests_per_s",
                           "load_s",
                           "rss_anon_bytes",
                           "rss_file_bytes",
                           "vram_allocator_bytes",
                           "vram_device_bytes",
                           "against",
                           "intent_accuracy",
                           "slot_f1",
                           "languages"}) {
    for (const auto& model : json["models"]) EXPECT_TRUE(model.contains(name)) << name;
  }
  EXPECT_EQ(m["name"], "fine-tuned");
  EXPECT_EQ(m["n"], 700);
  EXPECT_EQ(m["exact_match"].dump(), R"({"value":0.663,"low":0.627,"high":0.697})");
  EXPECT_EQ(m["valid_json"], 0.999);
  EXPECT_EQ(m["intervals"]["valid_json"].dump(), R"({"low":0.992,"high":1.0})");
  EXPECT_EQ(m["fields"]["artist"], 0.77);
  EXPECT_EQ(m["per_intent"]["BookRestaurant"]["recall"], 0.97);
  EXPECT_EQ(m["slices"]["test_iid"].dump(), R"({"n":400,"exact_match":0.7,"low":0.65,"high":0.74})");
  EXPECT_EQ(m["languages"]["en"]["exact_match"], 0.663);
  EXPECT_EQ(m["order_free_match"], 0.7);
  EXPECT_EQ(m["intervals"]["order_free_match"].dump(), R"({"low":0.66,"high":0.73})");
  EXPECT_EQ(m["out_of_scope"].dump(), R"({"n":90,"precision":0.91,"recall":0.82,"f1":0.863,"exact_match":0.8})");
  EXPECT_EQ(m["out_of_scope_auroc"], 0.93);
  EXPECT_EQ(m["rss_peak_bytes"], 320 << 20);
  EXPECT_EQ(m["latency_ms"]["ttft"]["p50"], 41.0);
  EXPECT_EQ(m["latency_ms"]["tpot"]["p90"], 9.9);
  EXPECT_EQ(m["latency_ms"]["e2e"]["p95"], 498.0);
  EXPECT_EQ(m["requests_per_s"]["8"], 9.75);
  EXPECT_EQ(m["joules_per_request"], 1.875);
  EXPECT_EQ(m["against"]["reference"], "base");
  EXPECT_EQ(m["against"]["lost"], 0);
  EXPECT_EQ(m["against"]["gained"], 464);
  EXPECT_EQ(m["against"]["p"], 1e-30);
  EXPECT_EQ(m["intent_accuracy"], 0.981);
  EXPECT_EQ(m["slot_f1"], 0.848);
  EXPECT_EQ(m["weights"], "real");
  EXPECT_EQ(json["machine"]["cores"], 2);
  EXPECT_EQ(json["data"][0]["sha256"], std::string(64, 'a'));
  EXPECT_EQ(m["template_sha256"], std::string(64, 'd'));
  EXPECT_EQ(m["prefix_cache"], true);
}

TEST(ReportJson, AbsentValuesAreNull) {
  const auto m = to_json(example_report())["models"][0];
  for (const char* name : {"prefill_tokens_per_s", "load_s", "vram_device_bytes", "against", "string_match"}) {
    EXPECT_TRUE(m[name].is_null()) << name;
  }
  EXPECT_TRUE(m["latency_ms"]["e2e"]["p50"].is_null());
  EXPECT_EQ(m["slices"].dump(), "{}");
  ModelReport odd;
  odd.decode_tokens_per_s = NAN;
  EXPECT_TRUE(to_json(odd)["decode_tokens_per_s"].is_null()) << "NaN is no JSON";
}

TEST(ReportJson, ReadsBackWhatItWrote) {
  auto report = example_report();
  report.models[1].errors[1].answer = "valid UTF-8";
  const auto text = to_json(report).dump(1);
  EXPECT_EQ(to_json(report_from_json(Json::parse(text), "r.json")).dump(1), text);
  const auto model = to_json(report.models[1]);
  EXPECT_EQ(to_json(model_from_json(model, "m.json")).dump(), model.dump());
}

TEST(ReportJson, RefusesWhatIsNoReport) {
  const auto problem = [](Json json) -> std::string {
    try {
      report_from_json(json, "r.json");
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::Input);
      return e.what();
    }
    return "";
  };
  const auto good = to_json(small_report());
  EXPECT_EQ(problem(good), "");
  auto json = good;
  json["models"][1]["against"]["lost"] = "many";
  EXPECT_EQ(problem(json), "r.json.models[1].against.lost: expected an integer");
  json = good;
  json["models"][0].erase("load_s");
  EXPECT_EQ(problem(json), "r.json.models[0]: key load_s is missing");
  json = good;
  json["models"][0]["weights"] = "unknown";
  EXPECT_EQ(problem(json), "r.json.models[0].weights: expected real, random or none");
  EXPECT_EQ(problem(Json::array()), "r.json: expected an object");
}

TEST(ReportMarkdown, GoldenText) {
  const auto text = to_markdown(small_report());
  const std::string golden = R"(# A\_B

## Comparison

|  | a | b\|c |
|---|--:|--:|
| **Quality (95 % intervals)** | | |
| rows | 1,200 | 1,200 |
| exact match | 50.0 % (47.1–52.9) | 25.0 % |
| string match | - | - |
| valid JSON | - | - |
| intent accuracy | - | - |
| slot F1 | - | - |
| macro F1 of intents | - | - |
| **Latency in ms, one request at a time: p50 / p90 / p95 (/ p99)** | | |
| first token | - | - |
| per further token | - | - |
| whole request | 1.50 / 20.0 / 300 | - |
| **Throughput** | | |
| prompt tokens per s | - | - |
| answer tokens per s | - | - |
| **Start and memory** | | |
| load | - | - |
| first request | - | - |
| RSS, anonymous | 512 B | 512 B |
| RSS, mapped files | - | - |
| RSS, highest | - | - |
| VRAM, allocator | - | - |
| VRAM, device | - | - |

## Against the reference

| model | against | rows both answered | lost | gained | p (exact McNemar) | smallest visible drop |
|---|---|--:|--:|--:|--:|--:|
| b\|c | a | 1,200 | 310 | 10 | 0.0312 | 2.0 % |

## What was measured

|  | a | b\|c |
|---|---|---|
| base weights | real | RANDOM (not trained: no statement about quality) |
)";
  EXPECT_EQ(text.substr(0, golden.size()), golden);
}

TEST(ReportTerminal, GoldenText) {
  EXPECT_EQ(to_terminal(small_report(), 100), R"(                                 a     b|c
--------------  ------------------  ------
Quality (95 % intervals)
rows                         1,200   1,200
exact match     50.0 % (47.1–52.9)  25.0 %

Latency in ms, one request at a time: p50 / p90 / p95 (/ p99)
whole request    1.50 / 20.0 / 300       -

Start and memory
RSS, anonymous               512 B   512 B

model  against  rows both answered  lost  gained  p (exact McNemar)  smallest visible drop
-----  -------  ------------------  ----  ------  -----------------  ---------------------
b|c    a                     1,200   310      10             0.0312                  2.0 %
)");
}

TEST(ReportMarkdown, RowsOfSomeSetsOnlyAreShownWhereTheyApply) {
  const std::string with = to_markdown(example_report()), without = to_markdown(small_report());
  for (const char* row : {"| match in any order of actions | - | 70.0 % (66.0–73.0) | - |",
                          "| out of scope: precision / recall / F1 | - | 91.0 % / 82.0 % / 86.3 % of 90 | - |",
                          "| out of scope: AUROC of the log-probability | - | 0.930 | - |",
                          "| J a request, all rows in batches | - | 1.88 | - |"})
    EXPECT_NE(with.find(row), std::string::npos) << row;
  for (const char* part : {"any order", "out of scope", "J a request"})
    EXPECT_EQ(without.find(part), std::string::npos) << part;
}

TEST(ReportCsv, OneLineAModel) {
  std::istringstream lines(to_csv(small_report()));
  std::string titles, a, b, none;
  ASSERT_TRUE(std::getline(lines, titles) && std::getline(lines, a) && std::getline(lines, b));
  EXPECT_FALSE(std::getline(lines, none));
  EXPECT_NE(titles.find("exact_match.value,exact_match.low"), std::string::npos);
  EXPECT_NE(titles.find("against.lost"), std::string::npos);
  EXPECT_EQ(std::count(titles.begin(), titles.end(), ','), std::count(b.begin(), b.end(), ','));
  EXPECT_EQ(std::count(titles.begin(), titles.end(), ','), std::count(a.begin(), a.end(), ','));
  EXPECT_NE(a.find(",1200,0.5,0.471,0.529,"), std::string::npos) << a;
  EXPECT_NE(b.find(",310,10,0.03125,"), std::string::npos) << b;
}

/// "" if every start tag has its end tag, in order; void elements and self-closed ones apart.
std::string unbalanced(const std::string& html) {
  std::vector<std::string> open = {"html", "head"};
  for (auto at = html.find('<', html.find("</style>") + 1); at != std::string::npos; at = html.find('<', at + 1)) {
    const auto tag = html.substr(at + 1, html.find('>', at) - at - 1);
    const bool closes = tag.starts_with('/');
    const auto name = tag.substr(closes ? 1 : 0, tag.find_first_of(" />", 1) - (closes ? 1 : 0));
    if (name == "meta" || tag.ends_with('/')) continue;
    if (!closes) {
      open.push_back(name);
    } else if (open.empty() || open.back() != name) {
      return "</" + name + "> after <" + (open.empty() ? "" : open.back()) + ">";
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> stays open";
}

TEST(ReportHtml, IsOneWholeFileWithoutOutsideResources) {
  const auto html = to_html(example_report());
  EXPECT_EQ(html.find("<!DOCTYPE html>"), 0u);
  EXPECT_EQ(unbalanced(html), "");
  for (const char* outside : {"<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import",
                              "http:", "https:", "onload", "onclick"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
  size_t plots = 0;
  for (auto at = html.find("<svg"); at != std::string::npos; at = html.find("<svg", at + 1)) ++plots;
  EXPECT_EQ(plots, 5u) << "exact match, latency, losses, exact match over steps, confusion";
  for (const char* part : {"prefers-color-scheme:dark", "@media print", "Worst errors (2)", "Comparison",
                           "p (exact McNemar)", "Intents: expected by answered", "66.3 % (62.7–69.7)",
                           "Loss per target token", "Rows that flipped against base (1)", "SIMD in use"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
}

TEST(ReportHtml, EscapesTextsWhereverTheyStand) {
  auto report = example_report();
  const std::string evil = "</title><script>x</script>&\"'";
  report.title = report.date = report.command = report.engine = report.notes[0] = report.machine.cpu = evil;
  report.data[0].path = report.data[0].use = report.training[0].name = evil;
  report.training.push_back(report.training[0]);
  auto& m = report.models[1];
  m.name = m.model = m.base = m.template_name = m.fields[0].first = m.per_intent[0].first = evil;
  m.slices[0].first = m.languages[0].first = m.requests_per_s[0].first = evil;
  m.confusion->expected[0] = m.confusion->answered[1] = evil;
  m.against->reference = evil;
  m.errors[0].id = m.errors[0].text = m.errors[0].expected = m.errors[0].answer = m.errors[0].note = evil;
  m.against->flipped[0].reference_answer = evil;
  m.notes = {evil};
  const auto html = to_html(report);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("&\"'"), std::string::npos);
  EXPECT_NE(html.find("&lt;/title&gt;&lt;script&gt;x&lt;/script&gt;&amp;&quot;&#39;"), std::string::npos);
  EXPECT_EQ(unbalanced(html), "");
  EXPECT_EQ(html.find('\x1b'), std::string::npos);
  EXPECT_TRUE(is_valid_utf8(html));
  EXPECT_EQ(to_markdown(report).find("\n<script"), std::string::npos);
  EXPECT_TRUE(is_valid_utf8(to_markdown(report)));
}

TEST(ReportHtml, AnEmptyReportIsStillWhole) {
  EXPECT_EQ(unbalanced(to_html(EvalReport{})), "");
  EXPECT_FALSE(to_markdown(EvalReport{}).empty());
  EXPECT_EQ(to_json(EvalReport{})["models"].dump(), "[]");
}

TEST(ReportFiles, WritesFourFiles) {
  const auto directory = std::filesystem::temp_directory_path() / "slmi_report_test" / "deep";
  slmi::remove_tree(directory.parent_path());
  write_report(example_report(), directory);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    EXPECT_GT(std::filesystem::file_size(entry.path()), 100u);
    ++files;
  }
  EXPECT_EQ(files, 4u);
  const auto json = read_json_file((directory / "report.json").string());
  EXPECT_EQ(report_from_json(json, "report.json").models.size(), 3u) << "even with an answer that is not UTF-8";
  slmi::remove_tree(directory.parent_path());
  std::ofstream(directory.parent_path().string()) << "a file where the directory should be";
  try {
    write_report(example_report(), directory);
    ADD_FAILURE() << "wrote into a file";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Output);
  }
  slmi::remove_tree(directory.parent_path());
}

}  // namespace
}  // namespace slmi::report
