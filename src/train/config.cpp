// Checks that no single field of the training configuration can make.
#include "slmi/train/config.h"

#include <fmt/format.h>

#include <cmath>

namespace slmi::train {

void TrainConfig::check(std::vector<std::string>& problems) const {
  if (base.empty()) problems.emplace_back("--base: which model to start from? a Hugging Face directory or a GGUF file");
  if (data.empty()) problems.emplace_back("--data: which rows to train on? a JSONL file");
  const bool looks_only = show_batch > 0 || dry_run;
  if (out.empty() && resume.empty() && !looks_only) problems.emplace_back("--out: where does the run go? a directory");
  int exponent = 0;
  if (std::frexp(initial_loss_scale, &exponent) != 0.5)
    problems.push_back(
        fmt::format("--initial-loss-scale {}: not a power of two, and dividing by it would round; take {}",
                    initial_loss_scale, std::ldexp(0.5, exponent)));
  if (patience > 0 && val.empty()) problems.emplace_back("--patience: needs --val, the rows to validate on");
}

}  // namespace slmi::train
