// The parts that need no model: names and thresholds, JSON of runs and jobs, predictions files, memory figures.
#include <gtest/gtest.h>

#include "../../src/eval/speed.h"
#include "../../src/eval/system.h"
#include "slmi/base/error.h"
#include "slmi/data/row_reader.h"
#include "slmi/eval/evaluate.h"
#include "slmi/eval/memory.h"
#include "slmi/eval/model_run.h"
#include "slmi/eval/predictions.h"
#include "slmi/eval/worker.h"
#include "tiny_model.h"

namespace slmi::eval {
namespace {

template <class F>
std::string error_of(ErrorKind kind, F&& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(NamedPath, TakesANameOnlyWhereItLooksLikeOne) {
  EXPECT_EQ(parse_named_path("tuned=runs/a").name, "tuned");
  EXPECT_EQ(parse_named_path("tuned=runs/a").path, "runs/a");
  EXPECT_EQ(parse_named_path("runs/a").name, "");
  EXPECT_EQ(parse_named_path("runs/lr=1e-3").name, "");
  EXPECT_EQ(parse_named_path("runs/lr=1e-3").path, "runs/lr=1e-3");
  EXPECT_EQ(parse_named_path("a=b=c").path, "b=c");
  error_of(ErrorKind::Usage, [] { parse_named_path("=runs"); });
  error_of(ErrorKind::Usage, [] { parse_named_path("name="); });
  error_of(ErrorKind::Usage, [] { parse_named_path(""); });
}

TEST(Threshold, IsParsedAndRefusedWithASuggestion) {
  const Threshold plain = parse_threshold("exact_match=0.97");
  EXPECT_EQ(plain.system, "");
  EXPECT_EQ(plain.metric, "exact_match");
  EXPECT_DOUBLE_EQ(plain.value, 0.97);
  EXPECT_EQ(parse_threshold("a:b:slot_f1=0").system, "a:b");
  EXPECT_NE(error_of(ErrorKind::Usage, [] { parse_threshold("exact_mach=0.5"); }).find("did you mean exact_match"),
            std::string::npos);
  for (const char* bad :
       {"exact_match", "exact_match=", "exact_match=97", "exact_match=0.5x", "exact_match=-1", "exact_match=nan"})
    error_of(ErrorKind::Usage, [&] { parse_threshold(bad); });
}

report::ModelReport model_report(const std::string& name, const std::string& engine, double exact_match,
                                 bool compared) {
  report::ModelReport model;
  model.name = name;
  model.engine = engine;
  model.exact_match.value = exact_match;
  if (compared) model.against = report::Against{};
  return model;
}

TEST(Threshold, HoldsForAllButReferenceAndBaselines) {
  report::EvalReport report;
  report.models = {model_report("base", "slmi cpu", 0.0, false), model_report("tuned", "slmi cpu", 0.8, true),
                   model_report("rules", "baseline", 0.1, true)};
  EvaluateOptions options;
  options.thresholds = {parse_threshold("exact_match=0.8")};
  EXPECT_NO_THROW(check_thresholds(report, options));
  options.thresholds = {parse_threshold("exact_match=0.81")};
  const auto message = error_of(ErrorKind::Findings, [&] { check_thresholds(report, options); });
  EXPECT_NE(message.find("tuned: exact_match is 0.8000, wanted 0.8100"), std::string::npos) << message;
  EXPECT_EQ(message.find("base"), std::string::npos);
  options.thresholds = {parse_threshold("base:exact_match=0.1")};
  EXPECT_NE(error_of(ErrorKind::Findings, [&] { check_thresholds(report, options); }).find("base: "),
            std::string::npos);
  options.thresholds = {parse_threshold("slot_f1=0.1")};  // no such figure on these rows: not met
  error_of(ErrorKind::Findings, [&] { check_thresholds(report, options); });
  report.models.resize(1);  // alone, the reference itself is judged
  options.thresholds = {parse_threshold("exact_match=0.1")};
  error_of(ErrorKind::Findings, [&] { check_thresholds(report, options); });
}

TEST(ModelRun, SurvivesItsJson) {
  ModelRun run;
  run.name = "m";
  run.facts.path = "p";
  run.facts.weights = "random";
  run.facts.max_new_tokens = 21;
  run.answers = {{"a", "x \"y\" ü", -1.25, true}, {"b", "", std::nullopt, false}};
  run.held = 2;
  run.too_long = 1;
  run.speed.load_s = 0.1;
  run.speed.requests = {{1.5, 20.25, 3.0}, {2.0, 2.0, std::nullopt}};
  run.speed.requests_per_s = {{1, 3.5}, {8, 10.0}};
  run.speed.accuracy_energy_j = 12.5;
  run.speed.energy_sources = "RAPL package-0";
  run.rss_anon_bytes = 12345678901;
  run.notes = {"n"};
  const Json json = Json::parse(to_json(run).dump());
  const ModelRun back = model_run_from_json(json, "test");
  EXPECT_EQ(to_json(back), json);
  EXPECT_EQ(back.answers[1].log_probability, std::nullopt);
  EXPECT_EQ(back.answers[0].answer, run.answers[0].answer);
  EXPECT_TRUE(back.answers[0].complete);
  EXPECT_FALSE(back.answers[1].complete);
  EXPECT_EQ(back.held, 2);
  EXPECT_EQ(back.facts.weights, "random");
  EXPECT_EQ(back.speed.requests[0].ttft, 1.5);
  EXPECT_EQ(back.speed.requests[0].e2e, 20.25);
  EXPECT_EQ(back.speed.requests_per_s[1].first, 8);
  EXPECT_EQ(back.speed.accuracy_energy_j, 12.5);
  EXPECT_EQ(back.speed.energy_sources, "RAPL package-0");
  EXPECT_EQ(back.rss_anon_bytes, run.rss_anon_bytes);
  EXPECT_EQ(back.vram_device_bytes, std::nullopt);
  Json broken = json;
  broken["speed"].erase("load_s");
  const auto missing = error_of(ErrorKind::Input, [&] { model_run_from_json(broken, "F"); });
  EXPECT_NE(missing.find("F: speed: 'load_s' is missing"), std::string::npos) << missing;
  broken = json;
  broken["answers"][0]["answer"] = 3;
  error_of(ErrorKind::Input, [&] { model_run_from_json(broken, "F"); });
}

TEST(DescribeModel, EnergyIsDividedByTheRowsItWasUsedFor) {
  ModelRun run;
  run.speed.accuracy_rows = 40;
  run.speed.energy_sources = "RAPL package-0";
  report::ModelReport without, with;
  describe_model(run, without);
  EXPECT_FALSE(without.joules_per_request);
  run.speed.accuracy_energy_j = 50.0;
  describe_model(run, with);
  EXPECT_EQ(with.joules_per_request, 1.25);
  ASSERT_EQ(with.notes.size(), without.notes.size() + 1);
  EXPECT_NE(with.notes.back().find("50.0 J"), std::string::npos) << with.notes.back();
  EXPECT_NE(with.notes.back().find("RAPL package-0"), std::string::npos) << with.notes.back();
}

TEST(DescribeModel, SaysWhatAnswersAreHeldToAndHowMany) {
  ModelRun run;
  run.speed.accuracy_rows = 40;
  run.facts.answer_form = "JSON with intent";
  run.held = 3;
  report::ModelReport out;
  describe_model(run, out);
  ASSERT_FALSE(out.notes.empty());
  EXPECT_NE(out.notes.front().find("JSON with intent; 3 of 40 would"), std::string::npos) << out.notes.front();
}

TEST(WithTooLong, TakesAnswersInAnyOrderAndEachRowOnce) {
  data::RowSet set;
  for (const char* id : {"a", "b", "c"}) set.rows.emplace_back().id = id;
  const RowAnswer a{"a", "first", -1.0, true}, c{"c", "third", -2.0, true};
  const auto all = with_too_long({c, a}, set);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].answer, "first");
  EXPECT_EQ(all[1].id, "b");
  EXPECT_FALSE(all[1].complete);
  EXPECT_EQ(all[2].answer, "third");
  error_of(ErrorKind::Internal, [&] { with_too_long({a, c, a}, set); });
  error_of(ErrorKind::Internal, [&] { with_too_long({a, {"d", "", std::nullopt, true}}, set); });
}

TEST(WorkerJob, SurvivesItsJson) {
  WorkerJob job;
  job.name = "m";
  job.model = "dir/m";
  job.rows = {{"a.jsonl", "b.jsonl"}, "query", "target", 7};
  job.open.base = "base.gguf";
  job.open.load.base_format = model::BaseFormat::NF4;
  job.open.load.policy = {ops::Compute::BF16, at::kBFloat16};
  job.open.load.residency = ops::Residency::Transient;
  job.open.load.device = at::Device(at::kCUDA, 0);
  job.measure.batch_sizes = {2};
  job.measure.share = 1;
  job.measure.shares = 3;
  job.threads = 3;
  const WorkerJob back = worker_job_from_json(to_json(job), "test");
  EXPECT_EQ(to_json(back), to_json(job));
  EXPECT_EQ(back.open.load.base_format, model::BaseFormat::NF4);
  EXPECT_EQ(back.open.load.policy.kv, at::kBFloat16);
  EXPECT_EQ(back.open.load.residency, ops::Residency::Transient);
  EXPECT_EQ(back.open.load.device, at::Device(at::kCUDA, 0));
  EXPECT_EQ(back.rows.limit, 7);
  EXPECT_EQ(back.measure.share, 1);
  EXPECT_EQ(back.measure.shares, 3);
  job.open.load.base_format = model::BaseFormat::Auto;
  EXPECT_EQ(worker_job_from_json(to_json(job), "test").open.load.base_format, model::BaseFormat::Auto);
}

data::RowSet three_rows() {
  return data::parse_rows(R"({"id": "r1", "text": "one", "answer": "1"}
{"id": 2, "text": "two", "answer": "2"}
{"id": "r3", "text": "three", "answer": "3"}
)",
                          "rows.jsonl");
}

TEST(Predictions, AreReadInTheRowsOrder) {
  TemporaryDirectory dir;
  write_lines(dir / "p.jsonl", {{{"id", "r3"}, {"answer", {{"a", 1}, {"b", "ü"}}}, {"log_probability", -2.5}},
                                {{"id", 2}, {"answer", "two"}},
                                {{"id", "elsewhere"}, {"answer", "x"}}});
  const auto read = read_predictions(dir / "p.jsonl", "sys", three_rows());
  ASSERT_EQ(read.answers.size(), 2U);
  EXPECT_EQ(read.answers[0].id, "2");
  EXPECT_EQ(read.answers[0].answer, "two");
  EXPECT_EQ(read.answers[1].answer, R"({"a": 1, "b": "ü"})");
  EXPECT_EQ(read.answers[1].log_probability, -2.5);
  EXPECT_EQ(read.unknown, 1);
}

TEST(Predictions, OfAnEarlierEvaluationAreTakenByModel) {
  TemporaryDirectory dir;
  write_lines(dir / "p.jsonl", {{{"id", "r1"}, {"model", "a"}, {"answer", "from a"}},
                                {{"id", "r1"}, {"model", "b"}, {"answer", "from b"}}});
  EXPECT_EQ(read_predictions(dir / "p.jsonl", "b", three_rows()).answers.at(0).answer, "from b");
  const auto message = error_of(ErrorKind::Input, [&] { read_predictions(dir / "p.jsonl", "c", three_rows()); });
  EXPECT_NE(message.find("p.jsonl:2"), std::string::npos) << message;
}

TEST(Predictions, BadFilesNameTheLine) {
  TemporaryDirectory dir;
  const auto message = [&](const std::string& text) {
    write_file_atomically(dir / "p.jsonl", text);
    return error_of(ErrorKind::Input, [&] { read_predictions(dir / "p.jsonl", "s", three_rows()); });
  };
  const std::string good = "{\"id\": \"r1\", \"answer\": \"x\"}\n";
  EXPECT_NE(message(good + "\n{broken\n").find("p.jsonl:3"), std::string::npos);
  EXPECT_NE(message(good + "{\"answer\": \"x\"}\n").find("p.jsonl:2: no 'id'"), std::string::npos);
  EXPECT_NE(message(good + "{\"id\": \"r3\"}\n").find("p.jsonl:2: no 'answer'"), std::string::npos);
  EXPECT_NE(message(good + "{\"id\": \"r3\", \"answer\": 3}\n").find("'answer' should be"), std::string::npos);
  EXPECT_NE(message(good + good).find("stands in"), std::string::npos);
  EXPECT_NE(message("{\"id\": \"zz\", \"answer\": \"x\"}\n").find("none of its 1 ids"), std::string::npos);
  error_of(ErrorKind::Input, [&] { read_predictions(dir / "absent.jsonl", "s", three_rows()); });
}

TEST(Memory, ReadsTheKernelsText) {
  const auto use = parse_process_status(
      "VmHWM:\t  900 kB\nVmRSS:\t 800 kB\nRssAnon:\t 500 kB\nRssFile:\t 290 kB\nRssShmem:\t 10 kB\n");
  EXPECT_EQ(use.rss_anon, 500 * 1024);
  EXPECT_EQ(use.rss_file, 300 * 1024);
  EXPECT_EQ(use.rss_peak, 900 * 1024);
  EXPECT_EQ(parse_process_status("Name: x\n").rss_anon, std::nullopt);
}

TEST(Memory, GrowsWithWhatIsTouched) {
  const auto before = memory_use(at::kCPU);
  ASSERT_TRUE(before.rss_anon && before.rss_peak);
  constexpr size_t kBytes = 64U << 20;
  std::vector<char> block(kBytes, 1);
  const auto after = memory_use(at::kCPU);
  EXPECT_GE(*after.rss_anon - *before.rss_anon, static_cast<int64_t>(kBytes) * 9 / 10)
      << static_cast<int>(block[kBytes / 2]);
  EXPECT_EQ(after.vram_allocator, std::nullopt);
}

}  // namespace
}  // namespace slmi::eval
