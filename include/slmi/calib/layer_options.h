// What quantizing a model layer by layer is told and tells, whatever the form of its matrices.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

#include "slmi/base/json.h"
#include "slmi/ops/tensor.h"

namespace slmi::calib {

/// One matrix in the table of errors. Errors are relative: the energy of the difference of the outputs over that of the
/// outputs, sqrt(sum e H e^T / sum w H w^T).
struct ModuleReport {
  int64_t layer = 0;
  std::string module;  // "q_proj"
  int64_t n = 0, k = 0;
  double error = 0, nearest_error = 0;  // of the solver, and of round-to-nearest
  double damp = 0;
  int64_t damp_raises = 0, dead_inputs = 0;
};
Json to_json(const ModuleReport& report);

struct LayerOptions {
  ops::Compute compute = ops::Compute::F32;  // of the forward pass
  at::Device device = at::kCPU;
  int64_t keep_bytes = int64_t{1} << 30;  // activations of an ffn that are kept rather than computed twice
  std::function<void(int64_t done, int64_t total)> progress;  // groups of matrices, four a layer; may be empty
  std::function<void(const ModuleReport&)> on_module;         // may be empty
};

}  // namespace slmi::calib
