// The training loop's decisions: rate, number of steps, accumulation, best checkpoint, early stop, and a loss that is
// not a number.
#include "slmi/train/trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "slmi/base/error.h"
#include "slmi/train/schedule.h"
#include "small_run.h"

namespace slmi::train {
namespace {

using testing::Process;
namespace fs = std::filesystem;

TEST(Schedule, WarmUpRisesLinearlyFromZero) {
  TrainConfig config;
  config.lr = 2e-3;
  config.warmup_ratio = 0.06;  // of 100 steps: 6
  for (const auto schedule : {Schedule::Cosine, Schedule::Linear, Schedule::Constant}) {
    config.schedule = schedule;
    for (int64_t step = 0; step < 6; ++step)
      EXPECT_DOUBLE_EQ(learning_rate(config, step, 100), 2e-3 * static_cast<double>(step) / 6);
    EXPECT_DOUBLE_EQ(learning_rate(config, 6, 100), 2e-3);
  }
  config.warmup_ratio = 0.061;  // a started step counts: 7
  EXPECT_LT(learning_rate(config, 6, 100), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(config, 7, 100), 2e-3);
}

TEST(Schedule, FallsByItsClosedForm) {
  TrainConfig config;
  config.lr = 1.0;
  config.warmup_ratio = 0.2;  // of 50 steps: 10, so that 40 remain
  const auto rate = [&](Schedule schedule, int64_t step) {
    config.schedule = schedule;
    return learning_rate(config, step, 50);
  };
  for (int64_t step = 10; step <= 50; ++step) {
    const double part = static_cast<double>(step - 10) / 40;
    EXPECT_NEAR(rate(Schedule::Cosine, step), std::pow(std::cos(0.5 * std::numbers::pi * part), 2), 1e-12);
    EXPECT_NEAR(rate(Schedule::Linear, step), 1 - part, 1e-12);
    EXPECT_EQ(rate(Schedule::Constant, step), 1.0);
  }
  EXPECT_NEAR(rate(Schedule::Cosine, 30), 0.5, 1e-12);
  EXPECT_NEAR(rate(Schedule::Cosine, 50), 0.0, 1e-12);
}

TEST(Schedule, NoWarmUpStartsAtThePeak) {
  TrainConfig config;
  config.lr = 0.5;
  config.warmup_ratio = 0.0;
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 10), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 1), 0.5);
}

TEST(Milestones, AreAfterStepsWithAValidationACheckpointOrAPauseAndAtTheEnd) {
  const auto all = [](const Milestones& milestones) {
    std::vector<int64_t> out;
    for (int64_t step = 1; step <= 12; ++step)
      if (milestones.any_after(step)) out.push_back(step);
    return out;
  };
  using Steps = std::vector<int64_t>;
  EXPECT_EQ(all({.last = 12}), (Steps{12}));
  EXPECT_EQ(all({.last = 12, .validate_every = 5}), (Steps{5, 10, 12}));
  EXPECT_EQ(all({.last = 12, .checkpoint_every = 4}), (Steps{4, 8, 12}));
  EXPECT_EQ(all({.last = 12, .pause_after = 7}), (Steps{7, 12}));
  EXPECT_EQ(all({.last = 12, .validate_every = 5, .checkpoint_every = 4, .pause_after = 7}),
            (Steps{4, 5, 7, 8, 10, 12}));
  const Milestones milestones{.last = 12, .validate_every = 5, .checkpoint_every = 5};
  EXPECT_TRUE(milestones.validates(12)) << "the last adapter may be the best";
  EXPECT_FALSE(milestones.checkpoints(12)) << "the end has one that is not due";
}

TEST(Trainer, StepsFollowFromRowsEpochsAndTheLimit) {
  TrainConfig config;
  config.batch_size = 8;
  config.epochs = 1;
  EXPECT_EQ(total_steps(config, 3000), 375);
  EXPECT_EQ(total_steps(config, 3001), 376);  // the last one is short
  config.epochs = 2;
  EXPECT_EQ(total_steps(config, 3001), 752);
  config.epochs = 0.5;
  EXPECT_EQ(total_steps(config, 3000), 188);
  config.epochs = 1e-6;
  EXPECT_EQ(total_steps(config, 3000), 1);
  config.epochs = 1;
  config.max_steps = 10;
  EXPECT_EQ(total_steps(config, 3000), 10);
}

TEST(Trainer, AccumulationDoesNotChangeTheStep) {
  TemporaryDirectory here;
  Process whole, cut, shared_off;
  for (Process* p : {&whole, &cut, &shared_off}) p->config.max_steps = 8;
  whole.config.micro_tokens = 4096;
  cut.config.micro_tokens = 32;
  shared_off.config.shared_prefix = false;
  whole.train_into(here / "whole");
  cut.train_into(here / "cut");
  shared_off.train_into(here / "shared-off");
  ASSERT_EQ(whole.records.size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(whole.records[i].micro_batches, 1);
    EXPECT_GE(cut.records[i].micro_batches, 2);
    for (const Process* p : {&cut, &shared_off}) {
      EXPECT_EQ(p->records[i].targets, whole.records[i].targets);
      EXPECT_NEAR(p->records[i].loss, whole.records[i].loss, 1e-5) << "step " << i + 1;
      EXPECT_NEAR(p->records[i].gradient_norm / whole.records[i].gradient_norm, 1.0, 1e-4) << "step " << i + 1;
    }
  }
}

TEST(Trainer, LearnsTheRows) {
  TemporaryDirectory here;
  Process process;
  process.config.epochs = 40;
  process.config.lora.dropout = 0.0;
  process.train_into(here / "run");
  EXPECT_LT(process.records.back().loss, 0.5 * process.records.front().loss);
}

/// Exact match and loss of each validation, in turn.
struct Script {
  double exact_match, loss;
};

/// A run that validates after each step and gets these results; `saved` are the steps whose adapter was kept.
TrainResult run_script(Process& process, const fs::path& run, const std::vector<Script>& script,
                       std::vector<int64_t>* saved, at::Tensor* best_values) {
  process.config.eval_every = 1;
  process.hooks.validate = [&](int64_t step) {
    const Script& s = script.at(static_cast<size_t>(step - 1));
    return Validation{step, s.loss, s.exact_match, 100};
  };
  process.hooks.save_adapter = [&](const fs::path& directory) {
    saved->push_back(process.records.back().step);
    *best_values = process.lora.values().clone();
    process.lora.save(directory, "tiny-tied");
  };
  return process.train_into(run);
}

at::Tensor saved_values(const Process& process, const fs::path& run) {
  const auto adapter = formats::PeftAdapter::open(run / "adapter");
  return model::Lora::from_adapter(process.llama->config(), adapter, at::kCPU).values();
}

TEST(Trainer, StopsWhenNothingGotBetterForLong) {
  TemporaryDirectory here;
  Process process;
  process.config.patience = 3;
  std::vector<int64_t> saved;
  at::Tensor best;
  const auto result =
      run_script(process, here / "run", {{0.1, 9}, {0.5, 8}, {0.4, 7}, {0.5, 8}, {0.3, 6}}, &saved, &best);
  EXPECT_EQ(result.steps, 5);
  EXPECT_EQ(result.best_step, 2);
  EXPECT_EQ(result.best_exact_match, 0.5);
  EXPECT_EQ(saved, (std::vector<int64_t>{1, 2}));
  EXPECT_TRUE(at::equal(saved_values(process, here / "run"), best));
  EXPECT_FALSE(at::equal(process.lora.values(), best));
  Process again;  // the stop is remembered
  std::vector<int64_t> none;
  EXPECT_EQ(run_script(again, here / "run", {}, &none, &best).steps, 5);
  EXPECT_TRUE(none.empty());
}

TEST(Trainer, KeepsTheBestByExactMatchThenByLoss) {
  TemporaryDirectory here;
  Process process;
  process.config.max_steps = 6;
  std::vector<int64_t> saved;
  at::Tensor best;
  // A lower loss wins only at the same exact match, and an equal result does not replace the older one.
  const auto result =
      run_script(process, here / "run", {{0, 5}, {0, 4}, {0.2, 9}, {0.1, 1}, {0.2, 3}, {0.2, 3}}, &saved, &best);
  EXPECT_EQ(saved, (std::vector<int64_t>{1, 2, 3, 5}));
  EXPECT_EQ(result.best_step, 5);
  EXPECT_TRUE(at::equal(saved_values(process, here / "run"), best));
}

TEST(Trainer, WithoutValidationTheLastAdapterIsTheResult) {
  TemporaryDirectory here;
  Process process;
  const auto result = process.train_into(here / "run");
  EXPECT_EQ(result.best_step, 15);
  EXPECT_TRUE(at::equal(saved_values(process, here / "run"), process.lora.values()));
  EXPECT_EQ(list_checkpoints(here / "run").size(), 2u);
}

TEST(Trainer, ALossThatIsNotANumberStopsAndKeepsTheLastCheckpoint) {
  TemporaryDirectory here;
  for (const float poison : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const fs::path run = here / fmt::format("{}", poison);
    Process process;
    process.hooks.on_step = [&](const StepRecord& r, int64_t) {
      if (r.step != 6) return;
      process.lora.values()[3] = poison;
      process.llama->refresh_adapters();
    };
    try {
      process.train_into(run);
      FAIL() << "the run went to its end";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::Numeric);
      EXPECT_NE(std::string(e.what()).find("step 7: loss "), std::string::npos) << e.what();
    }
    ASSERT_EQ(list_checkpoints(run).size(), 1u);
    Process after;
    const ops::Moments moments(after.lora.values(), ops::MomentBits::F32);
    const auto state = load_checkpoint(run, after.lora.values(), moments);
    ASSERT_TRUE(state.has_value());
    EXPECT_EQ(state->step, 4);
    for (const at::Tensor& t : {after.lora.values(), moments.m, moments.v})
      EXPECT_TRUE(at::isfinite(t).all().item<bool>());
  }
}

}  // namespace
}  // namespace slmi::train
