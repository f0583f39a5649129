// A packed batch on its device, ready for the blocks.
#pragma once

#include "slmi/data/packing.h"
#include "slmi/model/llama.h"

namespace slmi::model {

/// Tensors of a data::PackedBatch and its attention plan.
struct DeviceBatch {
  at::Tensor tokens, positions;        // i32 [T]
  at::Tensor dropout_keys;             // i64 [T]
  at::Tensor target_rows, target_ids;  // i64, i32 [P]
  ops::AttentionPlan plan;
  int64_t num_tokens = 0, num_targets = 0, num_positions = 0;
};

DeviceBatch to_device(const data::PackedBatch& batch, at::Device device);

}  // namespace slmi::model
