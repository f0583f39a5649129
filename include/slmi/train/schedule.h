// Learning rate over the steps: linear warm-up, then cosine, linear or no decay.
#pragma once

#include <cstdint>

#include "slmi/train/config.h"

namespace slmi::train {

/// Rate of step (from 0) of total steps: rises linearly over ceil(warmup_ratio * total) steps, then falls to 0 at
/// `total`. The formulas are those of transformers' get_cosine_schedule_with_warmup and
/// get_linear_schedule_with_warmup.
double learning_rate(const TrainConfig& config, int64_t step, int64_t total);

}  // namespace slmi::train
