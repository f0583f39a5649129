// The rows that slmi quantize works with: those that a flag names, else those that a run says of itself.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quantize_config.h"
#include "slmi/calib/calibration_rows.h"
#include "slmi/eval/measure.h"

namespace slmi::cli {

struct QuantizeRows {
  eval::RowSource source;         // no files: there are none
  std::filesystem::path missing;  // of a run's own files, the first that is no longer there: `source` has none then
};
/// @param of_run  model::training_rows or model::validation_rows.
QuantizeRows rows_of(const QuantizeConfig& config, const model::ModelFiles& files,
                     const std::vector<std::string>& named,
                     model::TrainingRows (*of_run)(const std::filesystem::path& run));

/// What --calibration names, or what the run was trained on.
QuantizeRows calibration_source(const QuantizeConfig& config, const model::ModelFiles& files);

/// How many rows, and how much of each: what the flags say, or `num_rows` and no more than kCalibrationTokens in all.
calib::CalibrationOptions calibration_options(const QuantizeConfig& config, const model::ModelFiles& files,
                                              int64_t num_rows);

/// Reads the rows, whether or not they have an answer, and takes some of them.
/// @throws Error{Input} naming the file that cannot be read or holds no rows.
calib::CalibrationRows read_calibration(const eval::RowSource& source, const model::ModelFiles& files,
                                        const calib::CalibrationOptions& options, at::Device device);

}  // namespace slmi::cli
