// The roof of a format here, and on hardware that is not here.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "slmi/ceilings/ceilings.h"
#include "slmi/ceilings/roof.h"
#include "slmi/eval/model_run.h"
#include "slmi/report/study.h"

namespace slmi::study {

/// Ceilings of a device on so many threads, measured unless `file` holds what was measured with `key`.
/// @throws Error{Output}.
ceilings::Ceilings ceilings_of(const std::string& device, int64_t threads, const std::filesystem::path& file,
                               const Json& key);

report::CeilingReport describe(const ceilings::Ceilings& limits, const std::string& device, int64_t threads);

/// What one request needs: the weights as they are stored at the artefact, and the tokens that the run's requests had,
/// what a prefix cache held left out.
struct RequestWork {
  ceilings::ModelWork model;
  int64_t prompt_tokens = 1, answer_tokens = 1;
  std::string compute;  // type that the run computed in, "bf16"
};
/// @throws Error{Input} if the artefact cannot be read.
RequestWork work_of(const std::filesystem::path& artefact, const eval::ModelRun& run);

report::RoofReport roof_of(const RequestWork& work, const ceilings::Ceilings& limits);

/// Predictions for each named hardware. @throws Error{Usage} for a name that is not known.
std::vector<report::StudyPrediction> predictions_of(const std::string& model, const std::string& format,
                                                    const RequestWork& work, int64_t file_bytes,
                                                    const std::vector<std::string>& hardware);

}  // namespace slmi::study
