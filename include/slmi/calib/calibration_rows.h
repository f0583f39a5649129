// The tokens that a model is calibrated on: rows of a data set, cut and packed. The one choice of rows for GPTQ's
// Hessians and for importances.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "slmi/data/encoded_dataset.h"
#include "slmi/model/batch.h"
#include "slmi/text/prompt_builder.h"

namespace slmi::calib {

struct CalibrationOptions {
  static constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  int64_t max_rows = 128;
  int64_t max_tokens = kNoLimit;    // of a row; what is longer is cut
  int64_t batch_tokens = 4096;      // computed at once
  int64_t total_tokens = kNoLimit;  // of all rows, about; fewer of them are taken where they have more
  /// What a token counts from which the answer's next one is predicted, against 1 of the others: there a small error
  /// changes what the user gets.
  double answer_weight = 16.0;
};

/// Packed rows on their device.
struct CalibrationRows {
  std::vector<model::DeviceBatch> batches;
  std::vector<at::Tensor> root_weights;  // f32 [T, 1] a batch: the root of what each token counts, whose mean is 1
  double answer_weight = 1.0;            // as asked for
  int64_t num_rows = 0, num_tokens = 0, num_cut = 0;
  std::string hash;  // SHA-256 of the ids and of where rows end
};

/// Takes max_rows of the rows, spread evenly over them, prompt and answer; the others are not encoded. Where these have
/// more than total_tokens, only as many of them, again spread evenly and one at least, as their mean length allows.
/// Every row is computed whole, shared instructions too: each row counts for what it is. @throws Error{Input} if there
/// are no rows.
CalibrationRows take_calibration_rows(data::RowSet set, const text::PromptBuilder& prompts,
                                      const CalibrationOptions& options, at::Device device);

/// The same from rows that are encoded.
CalibrationRows take_calibration_rows(const data::EncodedDataset& dataset, const CalibrationOptions& options,
                                      at::Device device);

}  // namespace slmi::calib
