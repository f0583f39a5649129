// The tokens that a model is calibrated on: rows of a data set, cut and packed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "slmi/data/encoded_dataset.h"
#include "slmi/model/batch.h"

namespace slmi::calib {

struct CalibrationOptions {
  int64_t max_rows = 128;
  int64_t max_tokens = 256;     // of a row; what is longer is cut
  int64_t batch_tokens = 4096;  // computed at once
};

/// Packed rows on their device.
struct CalibrationRows {
  std::vector<model::DeviceBatch> batches;
  int64_t num_rows = 0, num_tokens = 0, num_cut = 0;
  std::string hash;  // SHA-256 of the ids and of where rows end
};

/// Takes max_rows of the data set, spread evenly over it, prompt and answer. Every row is computed whole, shared
/// instructions too: each row counts for what it is. @throws Error{Input} if the data set is empty.
CalibrationRows take_calibration_rows(const data::EncodedDataset& dataset, const CalibrationOptions& options,
                                      at::Device device);

}  // namespace slmi::calib
