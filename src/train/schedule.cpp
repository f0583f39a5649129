// Learning-rate schedules; see the header.
#include "slmi/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace slmi::train {

double learning_rate(const TrainConfig& config, int64_t step, int64_t total) {
  const auto warmup = static_cast<int64_t>(std::ceil(config.warmup_ratio * static_cast<double>(total)));
  if (step < warmup) return config.lr * static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup));
  const double progress =
      static_cast<double>(step - warmup) / static_cast<double>(std::max<int64_t>(1, total - warmup));
  switch (config.schedule) {
    case Schedule::Cosine:
      return config.lr * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
    case Schedule::Linear:
      return config.lr * std::max(0.0, 1.0 - progress);
    case Schedule::Constant:
      return config.lr;
  }
  return config.lr;
}

}  // namespace slmi::train
