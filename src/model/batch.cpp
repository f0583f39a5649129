// Uploads a packed batch, and runs the model over it.
#include "slmi/model/batch.h"

#include <ATen/ATen.h>
#include <algorithm>

namespace slmi::model {

DeviceBatch to_device(const data::PackedBatch& batch, at::Device device) {
  const auto upload = [&](const auto& values, at::ScalarType type) {
    return at::from_blob(const_cast<void*>(static_cast<const void*>(values.data())),
                         {static_cast<int64_t>(values.size())}, type)
        .to(device, type, /*non_blocking=*/false, /*copy=*/true);
  };
  DeviceBatch out;
  out.num_tokens = batch.num_tokens();
  out.num_targets = batch.num_targets();
  out.tokens = upload(batch.tokens, at::kInt);
  out.positions = upload(batch.positions, at::kInt);
  out.dropout_keys = upload(batch.dropout_key, at::kLong);
  out.target_rows = upload(batch.target_rows, at::kInt).to(at::kLong);
  out.target_ids = upload(batch.target_ids, at::kInt);
  for (const int32_t p : batch.positions) out.num_positions = std::max<int64_t>(out.num_positions, p + 1);
  std::vector<ops::AttentionSegment> segments;
  for (int64_t s = 0; s < batch.num_segments(); ++s) {
    const auto offset = [&](int64_t i) { return static_cast<int64_t>(batch.segment_offsets[static_cast<size_t>(i)]); };
    ops::AttentionSegment g;
    g.q_begin = g.own_begin = offset(s);
    g.q_len = g.own_len = offset(s + 1) - offset(s);
    if (const int64_t p = batch.prefix_of_segment[static_cast<size_t>(s)]; p >= 0) {
      g.prefix_begin = offset(p);
      g.prefix_len = offset(p + 1) - offset(p);
    }
    segments.push_back(g);
  }
  out.plan = ops::AttentionPlan(std::move(segments), device);
  return out;
}

ForwardContext context_of(Llama& llama, const DeviceBatch& batch) {
  llama.reserve_positions(batch.num_positions);
  ForwardContext context;
  context.positions = batch.positions;
  context.plan = batch.plan;
  return context;
}

double forward_loss(Llama& llama, const DeviceBatch& batch) {
  const at::Tensor hidden = llama.forward(batch.tokens, context_of(llama, batch));
  return llama.head_loss(hidden, batch.target_rows, batch.target_ids, at::Tensor())
      .to(at::kDouble)
      .sum()
      .item<double>();
}

}  // namespace slmi::model
