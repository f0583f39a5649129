// From a model's run to the speed, memory and identity part of its report.
#pragma once

#include "slmi/eval/model_run.h"
#include "slmi/report/report.h"

namespace slmi::eval {

/// Everything that a run says of a model beside its answers.
void describe_model(const ModelRun& run, report::ModelReport& out);

}  // namespace slmi::eval
