// A training run from rows to adapter: resumable, measured, and the same bytes each time.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "slmi/comm/communicator.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/model/llama.h"
#include "slmi/train/checkpoint.h"
#include "slmi/train/config.h"

namespace slmi::train {

/// What happened in one optimizer step.
struct StepRecord {
  int64_t step = 0;  // from 1
  double loss = 0.0, learning_rate = 0.0, gradient_norm = 0.0;
  int64_t rows = 0, tokens = 0, targets = 0, micro_batches = 0;
  double seconds = 0.0;     // since the sums of the step before, or since it began on an idle device
  double loss_scale = 0.0;  // of a run in f16; else 0
  bool skipped = false;     // its gradient overflowed f16, and nothing was updated
};

struct Validation {
  int64_t step = 0;
  double loss = 0.0;         // a target token
  double exact_match = 0.0;  // share of rows
  int64_t rows = 0;
};

/// The rest of the program as the trainer sees it.
struct Hooks {
  /// Validates with the current adapter; empty: no validation set.
  std::function<Validation(int64_t step)> validate;
  /// After each step, in order. On a GPU the next one may be under way: the adapter is not to be touched.
  std::function<void(const StepRecord&, int64_t total_steps)> on_step;
  int64_t pause_after = 0;  // a step, from 1, whose on_step finds the device idle; the same on all ranks. 0: none
  std::function<void(const Validation&, bool best)> on_validation;
  /// Writes the best adapter's directory beside the values (provenance and so on).
  std::function<void(const std::filesystem::path& adapter_directory)> save_adapter;
  const std::atomic<int>* signal = nullptr;  // SIGINT or SIGTERM that arrived, or 0
};

/// Totals of a run, for its report.
struct TrainResult {
  int64_t steps = 0, rows = 0, tokens = 0, targets = 0;
  double seconds = 0.0;  // of training steps in this process, validation apart
  double validation_seconds = 0.0;
  double final_loss = 0.0;  // mean over the last tenth of the steps
  std::optional<double> best_exact_match;
  int64_t best_step = -1;
  int64_t resumed_from = 0;
  int64_t skipped_steps = 0;  // of all, f16's overflows
};

/// Trains `lora` (attached to `llama`, training enabled) on the rows; writes `run`/metrics.jsonl, timing.jsonl,
/// checkpoints/ and adapter/. If `run` holds a checkpoint it goes on from there.
/// With several ranks each computes some of a step's micro-batches; what is reported and written is that of all, by
/// rank 0, which alone reads and writes `run`. hooks.validate is called on all ranks. A signal on any rank stops all
/// after the same step: on a GPU after the one that is under way when it is seen.
/// @throws Error{Numeric} on a loss that is not finite, or a gradient that is not, in f16 only where no scale helps
/// (the last checkpoint stays), Error{Interrupted|Terminated} after writing a checkpoint, Error{Output}, Error{Peer} of
/// a rank that is lost; c10::Error where config.deterministic asks for an operation that ops::Deterministic cannot
/// have.
TrainResult train(model::Llama& llama, model::Lora& lora, const data::EncodedDataset& rows, const TrainConfig& config,
                  const std::filesystem::path& run, const Hooks& hooks, comm::Communicator& ranks);

/// Optimizer steps that a configuration gives for this many rows.
int64_t total_steps(const TrainConfig& config, int64_t num_rows);

}  // namespace slmi::train
