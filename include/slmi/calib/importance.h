// How much each input column of a matrix counts: the mean of its square over calibration tokens (llama.cpp's importance
// matrix), for quantizers that weigh their errors.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "slmi/data/encoded_dataset.h"
#include "slmi/model/llama.h"

namespace slmi::calib {

struct ImportanceOptions {
  int64_t max_rows = 128;                                          // of the data set, spread evenly over it
  int64_t batch_tokens = 2048;                                     // computed at once
  std::function<void(int64_t done, int64_t total)> progress = {};  // rows; may throw to stop
};

/// Means of squared inputs of every projection of a model.
class Importances {
 public:
  /// Runs the model, adapter included, over whole rows, prompt and answer, every token counting the same. Sums are f64.
  /// A column that was always 0 gets a small weight, so that no quantizer takes its weights for worthless.
  /// @throws Error{Input} for a data set without rows, Error{Numeric} naming the projection if an input is not finite.
  static Importances measure(model::Llama& llama, const data::EncodedDataset& rows, const ImportanceOptions& options);

  /// f32 [K] of a matrix by Hugging Face's name; empty for one that was not measured (embedding, head).
  std::span<const float> of(const std::string& hf_name) const;
  /// SHA-256 of the ids and of where rows end.
  const std::string& calibration_hash() const { return calibration_hash_; }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  std::map<std::string, std::vector<float>> values_;
  std::string calibration_hash_;
  int64_t num_tokens_ = 0;
};

}  // namespace slmi::calib
