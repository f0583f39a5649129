// What a report says of the machine, the build and the training that came before.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "slmi/report/report.h"

namespace slmi::eval {

report::Machine machine();
report::Build build();
/// "2025-01-31T12:00:00Z", now.
std::string utc_date();

/// The losses that `run`/metrics.jsonl holds; empty lists if there is no such file. An unfinished last line is left
/// out.
/// @throws Error{Input} naming the line for one that is broken.
report::TrainingCurve training_curve(const std::string& name, const std::filesystem::path& run);

}  // namespace slmi::eval
