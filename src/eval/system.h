// One column of the comparison: a model, another system's answers, or a baseline.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "slmi/data/row.h"
#include "slmi/eval/model_run.h"
#include "slmi/metrics/scoring.h"

namespace slmi::eval {

enum class SystemKind { Model, Predictions, Baseline };

struct System {
  std::string name;
  SystemKind kind = SystemKind::Model;
  std::string description;                // path, or what a baseline is
  std::vector<RowAnswer> answers;         // in the order of the rows
  std::vector<int64_t> rows;              // [answers] index of each answer's row; increasing
  std::vector<metrics::RowScore> scores;  // [answers] once judged
  std::optional<ModelRun> run;            // of a model; its answers are in `answers`
  std::vector<std::string> notes;
};

/// Gives every answer its row. @throws Error{Internal} for an id that no row has.
void match_rows(System& system, const data::RowSet& set);

/// `answers`, in any order, in that of the rows. Rows that do not fit the model have none: they count as answered with
/// nothing, hence as wrong. @throws Error{Internal} for an answer that has no row, or a row that has two.
std::vector<RowAnswer> with_too_long(std::vector<RowAnswer> answers, const data::RowSet& set);

}  // namespace slmi::eval
