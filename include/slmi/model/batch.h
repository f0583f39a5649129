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

/// What a pass over a batch is given; makes the model's rotary table long enough.
ForwardContext context_of(Llama& llama, const DeviceBatch& batch);

/// Sum of the target losses, in f64, without gradients.
double forward_loss(Llama& llama, const DeviceBatch& batch);

}  // namespace slmi::model
