// Subcommands over the ranks of a job. slmi eval: predictions and report are those of one process; ranks that differ or
// fail end all. slmi bench train: what ranks cost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "slmi/base/json.h"
#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

#ifdef SLMI_MPIRUN
const std::string kMpirun = SLMI_MPIRUN;
#else
const std::string kMpirun;
#endif
constexpr int kRows = 11;

/// Labels, each often enough to be taken for a closed set.
std::string rows(int count) {
  std::string out;
  for (int i = 0; i < count; ++i)
    out += Json({{"text", "play song " + std::to_string(37 * i) + std::string(static_cast<size_t>(i % 4), '1')},
                 {"answer", i % 2 == 0 ? "one" : "two"}})
               .dump() +
           "\n";
  return out;
}

int times(const std::string& text, const std::string& part) {
  int n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

class EvalRanks : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kMpirun.empty()) GTEST_SKIP() << "built without MPI (libopenmpi-dev is not installed)";
    write_tiny_base(dir_ / "base");
    write_text(dir_ / "train.jsonl", rows(24));
    write_text(dir_ / "rows.jsonl", rows(kRows));
  }
  Outcome here(const std::string& command_line) const {
    return run(command_line, dir_.path(),
               {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},  // containers know no other user
                {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                {"OMPI_MCA_rmaps_base_oversubscribe", "1"}});
  }
  static std::string eval(const std::string& flags) {
    return "'" SLMI_PROGRAM "' eval --device cpu --threads 1 --max-new-tokens 6 --batch-sizes 1,2 " + flags;
  }
  Outcome over(int ranks, const std::string& flags) const {
    return here(kMpirun + " -n " + std::to_string(ranks) + " " + eval(flags));
  }
  /// Rank 1 has flags of its own.
  Outcome differing(const std::string& first, const std::string& second, const std::string& before = "") const {
    return here(kMpirun + " -n 1 " + eval(first) + " : -n 1 " + before + eval(second));
  }
  /// The report without what a clock or the machine says, and the command line.
  Json lasting(const std::string& out) const {
    Json json = read_json_file((dir_ / out / "report.json").string());
    for (const char* key : {"command", "date", "machine"}) json.erase(key);
    for (auto& model : json["models"]) {
      for (const char* key :
           {"latency_ms", "e2e_samples_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "requests_per_s",
            "joules_per_request", "load_s", "first_request_ms", "rss_anon_bytes", "rss_file_bytes", "rss_peak_bytes"})
        model.erase(key);
      Json notes = Json::array();
      for (const auto& note : model["notes"])
        if (!note.get<std::string>().starts_with("energy: "))
          notes.push_back(std::regex_replace(note.get<std::string>(), std::regex("all rows in [0-9.]+ s"), "all rows"));
      model["notes"] = notes;
    }
    return json;
  }
  void expect_same(const std::string& got, const std::string& want) const {
    EXPECT_EQ(read_text(dir_ / got / "predictions.jsonl"), read_text(dir_ / want / "predictions.jsonl")) << got;
    EXPECT_EQ(lasting(got).dump(1), lasting(want).dump(1)) << got;
  }

  TemporaryDirectory dir_;
};

TEST_F(EvalRanks, TwoAndThreeRanksGiveTheBytesOfOneProcess) {
  const Outcome trained =
      here("slmi train --device cpu --threads 1 --base base --data train.jsonl --out run --max-steps 3 --batch-size 4");
  ASSERT_EQ(trained.code, 0) << trained.err;
  const std::string flags =
      "--model base --model tuned=run --data rows.jsonl --latency-rows 3 --eval-batch-size 4 --out ";
  const Outcome alone = here(eval(flags + "alone"));
  ASSERT_EQ(alone.code, 0) << alone.err;
  for (const std::string ranks : {"2", "3"}) {
    const Outcome got = over(std::stoi(ranks), flags + ranks);
    ASSERT_EQ(got.code, 0) << got.err;
    EXPECT_EQ(times(got.out, "report: "), 1) << "rank 0 alone prints\n" << got.out;
    EXPECT_EQ(times(got.err, "model base"), 1) << "rank 0 alone prints\n" << got.err;
    expect_same(ranks, "alone");
    EXPECT_EQ(read_json_file((dir_ / ranks / "report.json").string())["models"][0]["e2e_samples_ms"].size(), 3U);
    for (const auto& entry : fs::directory_iterator(dir_ / ranks))
      EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("worker")));
  }
  EXPECT_THAT(lasting("alone").dump(), HasSubstr("answers are held to the form of the training answers"));
}

TEST_F(EvalRanks, FewerBatchesThanRanksAndNoTiming) {
  const std::string flags = "--model base --data rows.jsonl --latency-rows 0 --eval-batch-size 8 --out ";
  const Outcome alone = here(eval(flags + "alone")), got = over(3, flags + "ranks");
  ASSERT_EQ(alone.code, 0) << alone.err;
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_EQ(lasting("alone")["models"][0]["n"], kRows);
  expect_same("ranks", "alone");
}

TEST_F(EvalRanks, AThresholdNotMetIsTheSameExitCodeOnAll) {
  const Outcome got = over(2, "--model base --data rows.jsonl --latency-rows 0 --fail-under exact_match=1 --out ranks");
  EXPECT_EQ(got.code, 6) << got.err;
  EXPECT_THAT(got.err, HasSubstr("slmi: rank 0: --fail-under is not met"));
  EXPECT_THAT(got.err, HasSubstr("slmi: rank 1: rank 0 ended: --fail-under is not met"));
  EXPECT_TRUE(fs::exists(dir_ / "ranks/report.json"));
}

TEST_F(EvalRanks, RanksThatDifferAreRefusedBeforeAnythingIsMeasured) {
  const std::string same = "--model base --data rows.jsonl --out ranks";
  const auto refused = [&](const std::string& second, const std::string& why) {
    const Outcome got = differing(same, second);
    EXPECT_EQ(got.code, 2) << got.err;
    EXPECT_THAT(got.err, HasSubstr(why));
    EXPECT_THAT(got.err, HasSubstr("nothing was started"));
    EXPECT_FALSE(fs::exists(dir_ / "ranks/report.json"));
  };
  refused(same + " --eval-batch-size 5", "rank 1 has configuration eval_batch_size 5, rank 0 has 32");
  refused(same + " --model second=base", "rank 1 has models 2, rank 0 has 1");
  write_text(dir_ / "other/rows.jsonl", rows(kRows - 1));
  refused("--model base --data other/rows.jsonl --out ranks", "rank 1 has rows of model 1 ");
  write_text(dir_ / "renamed.jsonl", rows(kRows));
  refused("--model base --data renamed.jsonl --out ranks", "rank 1 has row ids ");
  write_gptq_base(dir_ / "other/base");
  refused("--model other/base --data rows.jsonl --out ranks", "rank 1 has model 1 ");
}

TEST_F(EvalRanks, WhatOneRankCannotReadEndsAllWithItsMessage) {
  write_text(dir_ / "broken.jsonl", rows(3) + "{\n");
  const Outcome got =
      differing("--model base --data rows.jsonl --out ranks", "--model base --data broken.jsonl --out ranks");
  EXPECT_EQ(got.code, 3) << got.err;
  EXPECT_THAT(got.err, HasSubstr("slmi: rank 0: rank 1 ended: "));
  EXPECT_THAT(got.err, HasSubstr("broken.jsonl:4"));
}

TEST_F(EvalRanks, AFailureWhileOneRankMeasuresEndsAllWithItsMessage) {
  const std::string flags = "--model base --data rows.jsonl --latency-rows 0 --out ranks";
  const Outcome got = differing(flags, flags, "env TMPDIR=/nowhere ");
  EXPECT_EQ(got.code, 8) << got.err;
  EXPECT_THAT(got.err, HasSubstr("slmi: rank 0: rank 1 ended: /nowhere/slmi-eval-"));
  EXPECT_FALSE(fs::exists(dir_ / "ranks/report.json"));
}

using BenchRanks = EvalRanks;

TEST_F(BenchRanks, StepsOfAllRanksAreCountedAndWhatTheyCost) {
  const std::string bench =
      "'" SLMI_PROGRAM "' bench train --base base --device cpu --threads 1 --rows 3 --row-tokens 8 --steps 4";
  const Outcome alone = here(bench + " --out alone.json"), two = here(kMpirun + " -n 2 " + bench + " --out two.json");
  ASSERT_EQ(alone.code, 0) << alone.err;
  ASSERT_EQ(two.code, 0) << two.err;
  EXPECT_EQ(times(two.out, "step, median"), 1) << "rank 0 alone prints\n" << two.out;
  const Json one = read_json_file((dir_ / "alone.json").string()), both = read_json_file((dir_ / "two.json").string());
  EXPECT_FALSE(one.contains("ranks"));
  EXPECT_EQ(both["ranks"], 2);
  EXPECT_EQ(one["tokens_a_step"], 3 * 8);
  EXPECT_EQ(both["tokens_a_step"], 2 * 3 * 8);
  EXPECT_EQ(both["bytes_sent_a_rank"], both["gradient_bytes"]) << "half of it twice";
  EXPECT_GT(both["efficiency"].get<double>(), 0.0);
  EXPECT_GT(both["communication_ms"].get<double>(), 0.0);
}

}  // namespace
}  // namespace slmi::cli::testing
