// How much each input column of a matrix counts: the mean of its square over calibration tokens (llama.cpp's importance
// matrix), for quantizers that weigh their errors.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "slmi/calib/calibration_rows.h"
#include "slmi/model/llama.h"

namespace slmi::calib {

/// Mean squares [K] of a matrix's inputs as importances, f32 [K]. A column that was always 0 gets a small weight, so
/// that no quantizer takes its weights for worthless.
std::vector<float> importances_of(const at::Tensor& mean_squares);

/// Means of squared inputs of every projection of a model.
class Importances {
 public:
  /// Runs the model, adapter included, over the rows, every token counting the same. Sums are f64.
  /// @param rows  on the model's device. @param progress  tokens; may be empty, may throw to stop.
  /// @throws Error{Numeric} naming the projection if an input is not finite.
  static Importances measure(model::Llama& llama, const CalibrationRows& rows,
                             const std::function<void(int64_t done, int64_t total)>& progress = {});

  /// f32 [K] of a matrix by Hugging Face's name; empty for one that was not measured (embedding, head).
  std::span<const float> of(const std::string& hf_name) const;

 private:
  std::map<std::string, std::vector<float>> values_;
};

}  // namespace slmi::calib
