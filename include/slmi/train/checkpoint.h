// The state of a run on disk: everything that must be read back for the run to go on as if it had never stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "slmi/model/lora.h"
#include "slmi/ops/optimizer.h"

namespace slmi::train {

/// Counters of a run. Together with values and moments this is the whole state: order of rows, dropout and rate are
/// functions of (seed, step).
struct RunState {
  int64_t step = 0;            // optimizer steps done
  uint64_t metrics_bytes = 0;  // length of metrics.jsonl at that moment
  double best_exact_match = -1.0, best_loss = 0.0;
  int64_t best_step = -1;
  int64_t validations_since_best = 0;
  bool finished = false;
  std::optional<ops::LossScale> loss_scale = std::nullopt;  // of runs in f16
};

/// Writes `run`/checkpoints/step-NNNNNN as a whole: a temporary directory, fsync, rename. Removes all but the last
/// `keep`.
/// @throws Error{Output}; older checkpoints are then as they were.
void save_checkpoint(const std::filesystem::path& run, const RunState& state, const at::Tensor& values,
                     const ops::Moments& moments, int64_t keep);

/// The newest checkpoint of a run that is complete, or none. Copies values and moments into the given tensors.
/// @throws Error{Input} if it does not fit the adapter's size or the moments' type.
std::optional<RunState> load_checkpoint(const std::filesystem::path& run, const at::Tensor& values,
                                        const ops::Moments& moments);

/// A state as a line of text, and back. @throws Error{Input} naming `source` if something is missing.
std::string to_text(const RunState& state);
RunState to_run_state(const std::string& text, const std::string& source);

/// Checkpoint directories of a run by step, oldest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run);

}  // namespace slmi::train
