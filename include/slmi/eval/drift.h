// What a model lost when it was converted: the same rows answered by both, compared in pairs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "slmi/eval/measure.h"

namespace slmi::eval {

struct DriftOptions {
  std::filesystem::path before, after;  // models
  RowSource rows;
  model::OpenOptions open_before;  // `after` opens with its own template and tokenizer, and the same device and types
  bool answer_form = true;
  int64_t max_new_tokens = 256;
};

/// All of the rows that both models answered.
struct Drift {
  std::vector<std::filesystem::path> files;
  int64_t rows = 0;
  std::optional<double> loss_before, loss_after;  // mean over the expected answers' tokens, nats
  double match_before = 0.0, match_after = 0.0;   // exact match, 0..1
  int64_t lost = 0, gained = 0;                   // rows that `before` had right and `after` has wrong, and the reverse
  double p = 1.0;                                 // exact McNemar
  std::optional<double> smallest_drop;            // that this many rows would have called significant, 0..1
  std::vector<std::string> lost_ids;
  /// Exact match lost, in points (percent of all rows); negative: gained.
  double drop_points() const { return 100.0 * (match_before - match_after); }
};

/// Measures one model after the other, so that only one is in memory. @throws as measure_model does.
Drift measure_drift(const DriftOptions& options, const MeasureHooks& hooks);

Json to_json(const Drift& drift);
/// A few lines for people.
std::string drift_text(const Drift& drift);

}  // namespace slmi::eval
