// What every form of `slmi quantize` ends with: the model before and after answers the same rows.
#pragma once

#include <optional>

#include "quantize_config.h"
#include "slmi/eval/drift.h"
#include "stage_progress.h"

namespace slmi::cli {

/// A model that is quantized.
struct QuantizeSource {
  model::OpenOptions open;
  model::ModelFiles files;
};
/// Opens its files; prints what the user should know of them.
QuantizeSource open_source(const QuantizeConfig& config, Runtime& rt);

/// Both models answer --val's rows, or those that the run was validated on; prints what was lost. Empty, with a line
/// for the user, where there are no rows. @param quantized_base  the figures are then a lower bound, which is said.
std::optional<eval::Drift> measure_drift(const QuantizeConfig& config, const QuantizeSource& source,
                                         bool quantized_base, StageProgress& stages, Runtime& rt);

/// @throws Error{Findings} if exact match fell by more points than --max-drop.
void check_drop(const std::optional<eval::Drift>& drift, const QuantizeConfig& config);

}  // namespace slmi::cli
