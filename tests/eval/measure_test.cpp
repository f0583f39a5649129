// One model measured: its answers are those of one request at a time, in the rows' order, and every figure is there.
#include <gtest/gtest.h>

#include <csignal>
#include <map>
#include <set>

#include "slmi/base/error.h"
#include "slmi/eval/measure.h"
#include "slmi/eval/worker.h"
#include "tiny_model.h"

namespace slmi::eval {
namespace {

const std::string kSystem = "You answer in single bytes, whatever that may mean.";
constexpr int64_t kMaxNew = 12;

/// 40 requests of different lengths.
std::vector<std::string> requests() {
  std::vector<std::string> out;
  for (int i = 0; i < 40; ++i)
    out.push_back(std::string(static_cast<size_t>(1 + i * 7 % 23), static_cast<char>('a' + i % 26)) +
                  std::to_string(i));
  return out;
}

class MeasureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(dir_ / "model", 5, "random");
    const auto texts = requests();
    expected_ = answers_one_by_one(dir_ / "model", texts, kSystem, kMaxNew);
    std::vector<Json> rows;
    for (size_t i = 0; i < texts.size(); ++i)
      rows.push_back({{"id", fmt::format("r{}", i)}, {"text", texts[i]}, {"answer", std::string(40, 'x')}});
    write_lines(dir_ / "rows.jsonl", rows);
    source_.files = {dir_ / "rows.jsonl"};
    open_.system = kSystem;
    options_.max_new_tokens = kMaxNew;
    options_.batch_size = 7;
    options_.latency_rows = 12;
    options_.batch_sizes = {1, 4};
  }

  TemporaryDirectory dir_;
  std::vector<std::string> expected_;
  RowSource source_;
  model::OpenOptions open_;
  MeasureOptions options_;
};

TEST_F(MeasureTest, AnswersAreThoseOfOneRequestAtATime) {
  for (const bool prefix_cache : {true, false}) {
    options_.prefix_cache = prefix_cache;
    const ModelRun run = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
    ASSERT_EQ(run.answers.size(), expected_.size());
    for (size_t i = 0; i < expected_.size(); ++i) {
      EXPECT_EQ(run.answers[i].id, fmt::format("r{}", i));
      EXPECT_EQ(run.answers[i].answer, expected_[i]) << i;
      EXPECT_LT(run.answers[i].log_probability, 0.0);
    }
    EXPECT_EQ(run.facts.prefix_cache, prefix_cache);
  }
  EXPECT_GT(std::set<std::string>(expected_.begin(), expected_.end()).size(), 10U);  // else the order would not show
}

TEST_F(MeasureTest, EveryFigureIsThere) {
  const ModelRun run = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
  EXPECT_EQ(run.facts.max_new_tokens, kMaxNew);
  EXPECT_EQ(run.facts.weights, "random");
  EXPECT_EQ(run.facts.engine, "slmi cpu");
  EXPECT_EQ(run.facts.template_name, "llama3");
  EXPECT_EQ(run.facts.shared_prefixes, 1);
  EXPECT_EQ(run.facts.base_sha256.size(), 64U);
  const SpeedRun& s = run.speed;
  EXPECT_GT(s.load_s, 0.0);
  EXPECT_GT(s.first_request_ms, 0.0);
  ASSERT_EQ(s.requests.size(), 12U);
  for (const auto& r : s.requests) {
    EXPECT_GT(r.ttft, 0.0);
    ASSERT_TRUE(r.tpot.has_value());
    EXPECT_GT(*r.tpot, 0.0);
    // first token + the others: nothing of a request is counted twice, and little is left out
    EXPECT_LE(r.ttft + *r.tpot * (kMaxNew - 1), r.e2e * 1.001);
  }
  EXPECT_GT(s.prefill_tokens_per_s, 0.0);
  EXPECT_GT(s.decode_tokens_per_s, 0.0);
  ASSERT_EQ(s.requests_per_s.size(), 2U);
  EXPECT_EQ(s.requests_per_s[0].first, 1);
  EXPECT_EQ(s.requests_per_s[1].first, 4);
  EXPECT_GT(s.requests_per_s[1].second, 0.0);
  EXPECT_EQ(s.accuracy_batch, 7);
  EXPECT_EQ(s.accuracy_rows, 40);
  // A machine whose counters can be read has used something; another says why there is none.
  EXPECT_EQ(s.accuracy_energy_j.has_value(), s.energy_sources.find("none (") != 0) << s.energy_sources;
  EXPECT_GT(s.accuracy_energy_j.value_or(1.0), 0.0);
  EXPECT_GT(run.rss_anon_bytes, 0);
  EXPECT_GT(run.rss_file_bytes, 0);
  EXPECT_FALSE(run.vram_device_bytes.has_value());
}

TEST_F(MeasureTest, AnswersAreHeldToTheFormThatTheModelBrings) {
  std::vector<data::Row> rows(16);
  for (size_t i = 0; i < rows.size(); ++i)
    rows[i].answer = i % 2 == 0 ? R"({"intent": "Play", "count": 3})" : R"({"intent": "Stop", "count": null})";
  const auto form = data::learn_answer_form(rows);
  ASSERT_TRUE(form);
  auto provenance = *formats::read_provenance(dir_ / "model");
  provenance.answer_form = form->to_json();
  formats::write_provenance(dir_ / "model", provenance);
  options_.max_new_tokens = 64;
  options_.latency_rows = 0;
  const data::AnswerCheck check(std::make_shared<const data::AnswerForm>(*form), "", {});
  std::vector<std::string> first;
  for (const int64_t batch : {7, 1}) {
    options_.batch_size = batch;
    const ModelRun run = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
    ASSERT_EQ(run.answers.size(), expected_.size());
    for (const auto& a : run.answers) {
      EXPECT_TRUE(check.fit(a.answer).whole) << a.answer;
      EXPECT_TRUE(a.complete);
      EXPECT_LT(a.log_probability, 0.0);
      if (batch == 7) first.push_back(a.answer);
    }
    for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(run.answers[i].answer, first[i]);
    EXPECT_EQ(run.facts.answer_form, "JSON with intent (one of 2), count");
    EXPECT_EQ(run.held, 40);
  }
  EXPECT_GT(std::set<std::string>(first.begin(), first.end()).size(), 1U);  // else the model would not matter
  options_.answer_form = false;
  options_.max_new_tokens = kMaxNew;
  const ModelRun run = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
  for (size_t i = 0; i < expected_.size(); ++i) EXPECT_EQ(run.answers[i].answer, expected_[i]) << i;
  EXPECT_EQ(run.facts.answer_form, "");
  EXPECT_EQ(run.held, 0);
}

TEST_F(MeasureTest, SharesOfTheBatchesAreTheWholeBitForBit) {
  const ModelRun whole = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
  options_.latency_rows = 0;
  options_.shares = 4;
  std::map<std::string, RowAnswer> answers;
  std::vector<size_t> sizes;
  for (options_.share = 0; options_.share < options_.shares; ++options_.share) {
    const ModelRun run = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
    EXPECT_EQ(run.speed.accuracy_rows, static_cast<int64_t>(run.answers.size()));
    sizes.push_back(run.answers.size());
    for (const auto& a : run.answers) EXPECT_TRUE(answers.emplace(a.id, a).second) << a.id << " was answered twice";
  }
  EXPECT_EQ(sizes, (std::vector<size_t>{14, 12, 7, 7}));  // six batches of 7, the last of 5: 0 and 4, 1 and 5, 2, 3
  ASSERT_EQ(answers.size(), whole.answers.size());
  for (const auto& a : whole.answers) {
    EXPECT_EQ(answers.at(a.id).answer, a.answer);
    EXPECT_EQ(answers.at(a.id).log_probability, a.log_probability) << a.id;
  }
}

TEST_F(MeasureTest, AShareWithoutABatchAndTimingAloneHaveNoAnswers) {
  options_.latency_rows = 2;
  options_.answers = false;
  const ModelRun timed = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
  EXPECT_EQ(timed.speed.requests.size(), 2U);
  EXPECT_TRUE(timed.answers.empty());
  options_.answers = true;
  options_.share = options_.shares = 6;  // the number of batches
  const ModelRun none = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
  EXPECT_TRUE(none.answers.empty());
  EXPECT_EQ(none.facts.max_new_tokens, kMaxNew);
}

TEST_F(MeasureTest, NoTimingWhereNoneIsWanted) {
  options_.latency_rows = 0;
  source_.limit = 5;
  const ModelRun run = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
  EXPECT_EQ(run.answers.size(), 5U);
  EXPECT_TRUE(run.speed.requests.empty());
  EXPECT_TRUE(run.speed.requests_per_s.empty());
  EXPECT_FALSE(run.speed.decode_tokens_per_s.has_value());
}

TEST_F(MeasureTest, RowsThatDoNotFitAreCounted) {
  // 512 positions: the first is too long by itself, the second leaves less room than an answer may take.
  write_lines(dir_ / "long.jsonl", {{{"id", "long"}, {"text", std::string(600, 'a')}, {"answer", "x"}},
                                    {{"id", "full"}, {"text", std::string(420, 'a')}, {"answer", "x"}},
                                    {{"id", "short"}, {"text", "b"}, {"answer", "y"}}});
  source_.files = {dir_ / "long.jsonl"};
  options_.latency_rows = 0;
  const ModelRun run = measure_model("tiny", dir_ / "model", source_, open_, options_, {});
  ASSERT_EQ(run.answers.size(), 1U);
  EXPECT_EQ(run.answers[0].id, "short");
  EXPECT_EQ(run.too_long, 2);
  ASSERT_FALSE(run.notes.empty());
}

TEST_F(MeasureTest, FreshNormsAreCalledRandom) {
  write_tiny_model(dir_ / "unsaid", 5, "");
  write_tiny_model(dir_ / "fresh", 5, "", Norms::Fresh);
  options_.latency_rows = 0;
  source_.limit = 1;
  EXPECT_EQ(measure_model("t", dir_ / "unsaid", source_, open_, options_, {}).facts.weights, "");
  EXPECT_EQ(measure_model("t", dir_ / "fresh", source_, open_, options_, {}).facts.weights, "random");
}

TEST_F(MeasureTest, ASignalStopsIt) {
  std::atomic<int> signal = SIGINT;
  MeasureHooks hooks;
  hooks.signal = &signal;
  try {
    measure_model("tiny", dir_ / "model", source_, open_, options_, hooks);
    FAIL() << "went on";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Interrupted);
  }
}

WorkerJob job_for(const fs::path& model, const RowSource& source, const model::OpenOptions& open,
                  const MeasureOptions& options) {
  WorkerJob job{"tiny", model, source, open, options, 1, {}};
  return job;
}

TEST_F(MeasureTest, AProcessOfItsOwnGivesTheSame) {
  options_.latency_rows = 2;
  const WorkerJob job = job_for(dir_ / "model", source_, open_, options_);
  const ModelRun run = run_in_process(job, {SLMI_EVAL_WORKER}, dir_ / "", nullptr);
  ASSERT_EQ(run.answers.size(), expected_.size());
  for (size_t i = 0; i < expected_.size(); ++i) EXPECT_EQ(run.answers[i].answer, expected_[i]);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(dir_ / ""))
    files += entry.path().filename().string().starts_with("worker") ? 1 : 0;
  EXPECT_EQ(files, 0);
}

/// The error that a worker's end leads to.
Error failure(const WorkerJob& job, const std::vector<std::string>& command, const fs::path& scratch) {
  try {
    run_in_process(job, command, scratch, nullptr);
  } catch (const Error& e) {
    return e;
  }
  return {ErrorKind::Internal, "no error"};
}

TEST_F(MeasureTest, AFailingProcessNamesTheModel) {
  const WorkerJob job = job_for(dir_ / "model", source_, open_, options_);
  const auto check = [&](const Error& e, ErrorKind kind, const std::string& part) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    EXPECT_NE(std::string(e.what()).find("model 'tiny'"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  };
  const fs::path scratch = dir_ / "";
  check(failure(job, {"/bin/sh", "-c", "kill -SEGV $$"}, scratch), ErrorKind::Internal, "crashed (signal 11");
  check(failure(job, {"/bin/sh", "-c", "kill -KILL $$"}, scratch), ErrorKind::Device, "killed (signal 9)");
  check(failure(job, {"/bin/sh", "-c", "exit 3"}, scratch), ErrorKind::Internal, "status 3");
  check(failure(job, {"/nowhere/program"}, scratch), ErrorKind::Internal, "cannot start /nowhere/program");
  WorkerJob missing = job;
  missing.model = dir_ / "absent";
  check(failure(missing, {SLMI_EVAL_WORKER}, scratch), ErrorKind::Input, "absent");
}

TEST_F(MeasureTest, ASignalReachesTheProcess) {
  std::atomic<int> signal = SIGTERM;
  const WorkerJob job = job_for(dir_ / "model", source_, open_, options_);
  try {
    run_in_process(job, {"/bin/sh", "-c", "sleep 60"}, dir_ / "", &signal);
    FAIL() << "went on";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Terminated) << e.what();
  }
}

}  // namespace
}  // namespace slmi::eval
