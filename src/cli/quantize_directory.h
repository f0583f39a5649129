// What `slmi quantize --gptq` and `--nf4` have in common after writing their directory.
#pragma once

#include "quantize_drift.h"
#include "slmi/model/merged_weights.h"

namespace slmi::cli {

/// Reads the directory again, measures the drift, writes report.json there and says what one would do next.
/// @throws Error{Internal} if what was written does not read as it should, Error{Findings} above --max-drop.
void finish_directory(const QuantizeConfig& config, const QuantizeSource& source, const model::MergedWeights& weights,
                      Runtime& rt);

}  // namespace slmi::cli
