// From answers to the quality part of a report.
#pragma once

#include <optional>
#include <string>
#include <unordered_set>

#include "slmi/report/report.h"
#include "system.h"

namespace slmi::eval {

struct ScoreOptions {
  uint64_t seed = 0;                           // of the bootstrap
  std::unordered_set<std::string> leaked_ids;  // rows that training may have seen: the part "without leaks" lacks them
};

/// Judges every answer: fills system.scores.
void score_rows(System& system, const data::RowSet& set);

/// Fills everything of `out` that follows from the scored answers, worst errors included.
void describe_quality(const System& system, const data::RowSet& set, const ScoreOptions& options,
                      report::ModelReport& out);

/// `system` against `reference` on the rows that both answered; absent if there are none.
std::optional<report::Against> compare(const System& system, const System& reference, const data::RowSet& set);

}  // namespace slmi::eval
