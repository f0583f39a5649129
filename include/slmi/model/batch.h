// A packed batch on its device, ready for the blocks.
#pragma once

#include "slmi/data/padding.h"
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

/// Memory on a GPU for the batches of one padded size, always in the same place: for passes that are recorded once and
/// replayed. The plan has FlashAttention's tensors alone.
class FixedBatch {
 public:
  FixedBatch(const data::BatchSize& size, at::Device device);
  /// Copies a batch that was padded to the size; does not wait for the GPU.
  void upload(const data::PackedBatch& batch);
  const DeviceBatch& batch() const { return batch_; }

 private:
  data::BatchSize size_;
  at::Tensor memory_;  // bytes
  DeviceBatch batch_;
};

DeviceBatch to_device(const data::PackedBatch& batch, at::Device device);

/// What a pass over a batch is given; makes the model's rotary table long enough.
ForwardContext context_of(Llama& llama, const DeviceBatch& batch);

/// Sum of the target losses, in f64, without gradients.
double forward_loss(Llama& llama, const DeviceBatch& batch);

}  // namespace slmi::model
