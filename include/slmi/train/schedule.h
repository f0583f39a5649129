// What is known of a run's steps beforehand. Learning rate: linear warm-up, then cosine, linear or no decay. And what
// comes between two steps.
#pragma once

#include <cstdint>

#include "slmi/train/config.h"

namespace slmi::train {

/// Rate of step (from 0) of total steps: rises linearly over ceil(warmup_ratio * total) steps, then falls to 0 at
/// `total`. The formulas are those of transformers' get_cosine_schedule_with_warmup and
/// get_linear_schedule_with_warmup.
double learning_rate(const TrainConfig& config, int64_t step, int64_t total);

/// Steps, counted from 1, after which the loop does more than go on.
struct Milestones {
  int64_t last = 0;
  int64_t validate_every = 0;    // 0: never; else after the last one too
  int64_t checkpoint_every = 0;  // 0: none that is due
  int64_t pause_after = 0;       // 0: none

  bool validates(int64_t step) const { return validate_every > 0 && (step % validate_every == 0 || step == last); }
  bool checkpoints(int64_t step) const { return checkpoint_every > 0 && step % checkpoint_every == 0; }
  /// If not, the next step follows at once, unless an error or a signal ends the run.
  bool any_after(int64_t step) const {
    return step == last || step == pause_after || validates(step) || checkpoints(step);
  }
};

}  // namespace slmi::train
