// An interrupted run ends with the same bytes as one left alone, however it was interrupted; a failed write loses
// nothing.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "slmi/base/error.h"
#include "small_run.h"

namespace slmi::train {
namespace {

using testing::bytes_of;
using testing::differences;
using testing::Process;
namespace fs = std::filesystem;

constexpr int64_t kSteps = 15;
const std::vector<std::string> kNone;

/// A validation that depends on the adapter's values alone, as the real one does.
void add_validation(Process& process) {
  process.config.eval_every = 5;
  process.hooks.validate = [&process](int64_t step) {
    const auto total = process.lora.values().to(at::kDouble).abs().sum().item<double>();
    return Validation{step, total, std::fmod(total * 10, 1.0), 10};
  };
}

void die_after_step(const fs::path& run, int64_t step) {
  Process process;
  add_validation(process);
  process.hooks.on_step = [step](const StepRecord& r, int64_t) {
    if (r.step == step) throw std::runtime_error("power cut");
  };
  EXPECT_THROW(process.train_into(run), std::runtime_error);
}

/// The run that nothing disturbed, made once.
class Resume : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<TemporaryDirectory>();
    Process process;
    add_validation(process);
    const TrainResult result = process.train_into(alone());
    EXPECT_EQ(result.steps, kSteps);
    ASSERT_EQ(process.records.size(), static_cast<size_t>(kSteps));
    for (const auto& r : process.records) EXPECT_GE(r.micro_batches, 2) << "no accumulation at step " << r.step;
    EXPECT_EQ(process.rows.num_prefixes(), 2);
    losses_.clear();
    for (const auto& r : process.records) losses_.push_back(r.loss);
  }
  static void TearDownTestSuite() { directory_.reset(); }
  static fs::path alone() { return *directory_ / "alone"; }
  static const std::vector<double>& alone_losses() { return losses_; }

  TemporaryDirectory here_;

 private:
  static inline std::unique_ptr<TemporaryDirectory> directory_;
  static inline std::vector<double> losses_;
};

ErrorKind kind_thrown_by(Process& process, const fs::path& run, std::string* message = nullptr) {
  try {
    process.train_into(run);
  } catch (const Error& e) {
    if (message != nullptr) *message = e.what();
    return e.kind();
  }
  ADD_FAILURE() << "the run went to its end";
  return ErrorKind::Internal;
}

TEST_F(Resume, TwoRunsLeftAloneGiveTheSameBytes) {
  Process process;
  add_validation(process);
  process.train_into(here_ / "run");
  EXPECT_EQ(differences(here_ / "run", alone()), kNone);
}

TEST_F(Resume, DropoutAndOrderAreInTheBytes) {
  for (const bool other_seed : {false, true}) {
    Process process;
    add_validation(process);
    if (other_seed) process.config.seed = 8;
    if (!other_seed) process.config.lora.dropout = 0.0;
    const fs::path run = here_ / (other_seed ? "seed" : "dropout");
    process.train_into(run);
    EXPECT_NE(bytes_of(run / "metrics.jsonl"), bytes_of(alone() / "metrics.jsonl"));
  }
}

TEST_F(Resume, AfterSignals) {
  const fs::path run = here_ / "run";
  for (const auto& [stop, signal] : {std::pair{int64_t{3}, SIGINT}, {4, SIGTERM}, {10, SIGINT}, {14, SIGTERM}}) {
    Process process;
    add_validation(process);
    std::atomic<int> arrived = 0;
    process.hooks.signal = &arrived;
    process.hooks.on_step = [&, stop = stop, signal = signal](const StepRecord& r, int64_t) {
      if (r.step == stop) arrived = signal;
    };
    std::string message;
    EXPECT_EQ(kind_thrown_by(process, run, &message),
              signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated);
    EXPECT_NE(message.find("--resume " + run.string()), std::string::npos) << message;
    ASSERT_FALSE(list_checkpoints(run).empty());
    EXPECT_EQ(list_checkpoints(run).back().filename(), fmt::format("step-{:06d}", stop));
  }
  Process last;
  add_validation(last);
  EXPECT_EQ(last.train_into(run).resumed_from, 14);
  EXPECT_EQ(last.records.size(), 1u);
  EXPECT_EQ(differences(run, alone()), kNone);
}

TEST_F(Resume, AfterDyingBetweenCheckpoints) {
  const fs::path run = here_ / "run";
  // Before the first checkpoint, right after a step that has one due, and in the middle: the metrics are ahead each
  // time.
  for (const int64_t stop : {2, 5, 8, 9, 15}) {
    die_after_step(run, stop);
    EXPECT_GT(fs::file_size(run / "metrics.jsonl"), 0u);
  }
  Process last;
  add_validation(last);
  EXPECT_EQ(last.train_into(run).resumed_from, 12);
  EXPECT_EQ(differences(run, alone()), kNone);
}

TEST_F(Resume, AfterDyingInValidationAndWhileSavingTheAdapter) {
  const fs::path run = here_ / "run";
  Process first;
  add_validation(first);
  first.hooks.validate = [](int64_t) -> Validation { throw std::runtime_error("power cut"); };
  EXPECT_THROW(first.train_into(run), std::runtime_error);
  Process second;
  add_validation(second);
  second.hooks.save_adapter = [&](const fs::path& directory) {
    second.lora.save(directory, "tiny-tied");
    throw std::runtime_error("power cut");
  };
  EXPECT_THROW(second.train_into(run), std::runtime_error);
  Process last;
  add_validation(last);
  EXPECT_EQ(last.train_into(run).resumed_from, 4);
  EXPECT_EQ(differences(run, alone()), kNone);
}

TEST_F(Resume, IgnoresACheckpointCutShort) {
  const fs::path run = here_ / "run";
  die_after_step(run, 6);
  // Half of a state file of the next checkpoint, and one of a step that never comes.
  const std::string whole = bytes_of(run / "checkpoints" / "step-000004" / "state.safetensors");
  for (const char* name : {"step-000008.tmp", "step-000099.tmp"}) {
    const fs::path cut = run / "checkpoints" / name;
    fs::create_directories(cut);
    std::ofstream(cut / "state.safetensors.tmp-1", std::ios::binary) << whole.substr(0, whole.size() / 2);
    std::ofstream(cut / "state.json") << "{\"step\": 99";
  }
  Process last;
  add_validation(last);
  EXPECT_EQ(last.train_into(run).resumed_from, 4);
  EXPECT_EQ(differences(run, alone()), kNone);
}

TEST_F(Resume, CheckpointsAreInTheOrderOfTheirSteps) {
  const fs::path checkpoints = here_ / "run/checkpoints";
  for (const char* name : {"step-1000000", "step-999999", "step-000020", "step-000020.new", "step-000100",
                           "step-000100.tmp", "step-x", "step-", "step--00001", "notes"})
    fs::create_directories(checkpoints / name);
  std::vector<std::string> names;
  for (const auto& path : list_checkpoints(here_ / "run")) names.push_back(path.filename());
  EXPECT_EQ(names,
            (std::vector<std::string>{"step-000020", "step-000020.new", "step-000100", "step-999999", "step-1000000"}));
}

TEST_F(Resume, TakesTheNewCheckpointOfAReplacementCutShort) {
  const fs::path run = here_ / "run";
  die_after_step(run, 6);
  // The old one half removed, the new one not yet under its name: where the system cannot exchange the two.
  const fs::path old = run / "checkpoints/step-000004", fresh = run / "checkpoints/step-000004.new";
  fs::copy(old, fresh);
  fs::remove(old / "state.json");
  Process last;
  add_validation(last);
  EXPECT_EQ(last.train_into(run).resumed_from, 4);
  EXPECT_EQ(differences(run, alone()), kNone);
}

TEST_F(Resume, AFinishedRunIsLeftAsItIs) {
  const fs::path run = here_ / "run";
  fs::copy(alone(), run, fs::copy_options::recursive);
  Process process;
  add_validation(process);
  EXPECT_EQ(process.train_into(run).resumed_from, kSteps);
  EXPECT_TRUE(process.records.empty());
  EXPECT_EQ(differences(run, alone()), kNone);
}

TEST_F(Resume, WithMomentsInEightBits) {
  const auto start = [](Process& process) {
    add_validation(process);
    process.config.optimizer = ops::MomentBits::Eight;
  };
  Process whole;
  start(whole);
  whole.train_into(here_ / "whole");
  Process killed;
  start(killed);
  killed.hooks.on_step = [](const StepRecord& r, int64_t) {
    if (r.step == 9) throw std::runtime_error("power cut");
  };
  EXPECT_THROW(killed.train_into(here_ / "run"), std::runtime_error);
  std::string message;
  {
    Process other;  // told to go on with moments in f32
    EXPECT_EQ(kind_thrown_by(other, here_ / "run", &message), ErrorKind::Input);
    EXPECT_NE(message.find("'adam_m' is U8"), std::string::npos) << message;
  }
  Process last;
  start(last);
  EXPECT_EQ(last.train_into(here_ / "run").resumed_from, 8);
  EXPECT_EQ(differences(here_ / "run", here_ / "whole"), kNone);
  const auto bytes = [](const fs::path& run) {
    return fs::file_size(list_checkpoints(run).back() / "state.safetensors");
  };
  EXPECT_LT(bytes(here_ / "whole"), 0.53 * bytes(alone())) << "values in f32, two moments of a byte";
  EXPECT_EQ(whole.records[0].loss, alone_losses()[0]);
  for (size_t i = 1; i < whole.records.size(); ++i)
    EXPECT_NEAR(whole.records[i].loss / alone_losses()[i], 1.0, 0.02) << "step " << i + 1;
}

TEST_F(Resume, RefusesMetricsThatLostLinesAndAnotherAdaptersState) {
  const fs::path run = here_ / "run";
  fs::copy(alone(), run, fs::copy_options::recursive);
  fs::resize_file(run / "metrics.jsonl", 10);
  std::string message;
  {
    Process process;
    EXPECT_EQ(kind_thrown_by(process, run, &message), ErrorKind::Input);
    EXPECT_NE(message.find("metrics.jsonl: has 10 bytes"), std::string::npos) << message;
  }
  const at::Tensor few = at::zeros({5});
  save_checkpoint(run, {.step = 20}, few, ops::Moments(few, ops::MomentBits::F32), 2);
  Process process;
  EXPECT_EQ(kind_thrown_by(process, run, &message), ErrorKind::Input);
  EXPECT_NE(message.find("step-000020"), std::string::npos) << message;
}

/// While it lives, no file of this process grows beyond `bytes`: what a full disk does to a write, without a disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int) = nullptr;
};

TEST_F(Resume, AFullDiskDuringACheckpointKeepsThePreviousOne) {
  const fs::path run = here_ / "run", previous = run / "checkpoints" / "step-000004";
  std::string message, before;
  {
    Process process;
    add_validation(process);
    std::optional<FullDisk> full;
    process.hooks.on_step = [&](const StepRecord& r, int64_t) {
      if (r.step != 8) return;
      before = bytes_of(previous / "state.safetensors");
      full.emplace(before.size() / 2);  // larger than the metrics: only the state does not fit
    };
    EXPECT_EQ(kind_thrown_by(process, run, &message), ErrorKind::Output);
  }
  EXPECT_NE(message.find("state.safetensors: cannot write: File too large"), std::string::npos) << message;
  EXPECT_EQ(list_checkpoints(run), std::vector<fs::path>{previous});
  EXPECT_EQ(bytes_of(previous / "state.safetensors"), before);
  EXPECT_FALSE(fs::exists(run / "checkpoints" / "step-000008.tmp"));
  Process last;
  add_validation(last);
  EXPECT_EQ(last.train_into(run).resumed_from, 4);
  EXPECT_EQ(differences(run, alone()), kNone);
}

TEST_F(Resume, AFullDiskWhileTheMetricsAreWrittenIsAnErrorAndGoesOnLater) {
  const fs::path run = here_ / "run";
  {
    Process process;
    add_validation(process);
    std::optional<FullDisk> full;
    process.hooks.on_step = [&](const StepRecord& r, int64_t) {
      if (r.step == 6) full.emplace(fs::file_size(run / "metrics.jsonl") + 5);  // five bytes of the next line fit
    };
    std::string message;
    EXPECT_EQ(kind_thrown_by(process, run, &message), ErrorKind::Output);
    EXPECT_NE(message.find("metrics.jsonl: cannot write"), std::string::npos) << message;
  }
  Process last;
  add_validation(last);
  EXPECT_EQ(last.train_into(run).resumed_from, 4);
  EXPECT_EQ(differences(run, alone()), kNone);
}

}  // namespace
}  // namespace slmi::train
