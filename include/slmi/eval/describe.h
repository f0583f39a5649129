// From runs of models to what a report says of them.
#pragma once

#include <cstdint>
#include <optional>

#include "slmi/data/row.h"
#include "slmi/eval/model_run.h"
#include "slmi/report/report.h"

namespace slmi::eval {

/// One run: scores of its answers to the rows of `set` (rows that the model could not take count as wrong), speed,
/// memory, identity. @param seed  of the bootstrap. @throws Error{Internal} for answers to other rows.
report::ModelReport describe(const ModelRun& run, const data::RowSet& set, uint64_t seed);

/// `run` against `reference`, row by row. Absent where there is no row that both answered.
std::optional<report::Against> compare(const ModelRun& run, const ModelRun& reference, const data::RowSet& set);

}  // namespace slmi::eval
