// Uploads a packed batch, and runs the model over it.
#include "slmi/model/batch.h"

#include <ATen/ATen.h>
#include <algorithm>

#include "slmi/base/error.h"

namespace slmi::model {
namespace {

/// Each over its own tokens, and what it shares.
std::vector<ops::AttentionSegment> segments_of(const data::PackedBatch& batch) {
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
  return segments;
}

/// The arrays of a FixedBatch in its memory, one after the other. Called with the device's memory and with the host's,
/// it gives each the same layout.
struct BatchLayout {
  at::Tensor dropout_keys, target_rows, sharing_rows, prefix_rows;                                             // i64
  at::Tensor tokens, positions, target_ids, segment_offsets, sharing_offsets, prefix_offsets, segment_prefix;  // i32
  int64_t bytes = 0;

  /// Undefined memory: sizes alone.
  BatchLayout(const data::BatchSize& size, const at::Tensor& memory) {
    const auto take = [&](at::Tensor& view, int64_t count, at::ScalarType type) {
      constexpr int64_t kAlignment = 16;
      const int64_t length = count * static_cast<int64_t>(at::elementSize(type));
      if (memory.defined()) view = memory.narrow(0, bytes, length).view(type);
      bytes += (length + kAlignment - 1) / kAlignment * kAlignment;
    };
    take(dropout_keys, size.tokens(), at::kLong);
    take(target_rows, size.targets, at::kLong);
    take(sharing_rows, size.sharing, at::kLong);
    take(prefix_rows, size.prefix, at::kLong);
    take(tokens, size.tokens(), at::kInt);
    take(positions, size.tokens(), at::kInt);
    take(target_ids, size.targets, at::kInt);
    take(segment_offsets, size.segments + 1, at::kInt);
    take(sharing_offsets, size.prefixes + 1, at::kInt);
    take(prefix_offsets, size.prefixes + 1, at::kInt);
    take(segment_prefix, 2 * size.segments, at::kInt);
  }
};

/// Copies the values; what the tensor has room for beyond them repeats the last: segments of no token.
template <class T, class Values>
void fill(const at::Tensor& to, const Values& values) {
  T* out = to.data_ptr<T>();
  std::copy(values.begin(), values.end(), out);
  if (!values.empty()) std::fill(out + values.size(), out + to.numel(), static_cast<T>(values.back()));
}

}  // namespace

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
  out.plan = ops::AttentionPlan(segments_of(batch), device);
  return out;
}

FixedBatch::FixedBatch(const data::BatchSize& size, at::Device device)
    : size_(size),
      memory_(at::empty({BatchLayout(size, {}).bytes}, at::TensorOptions().dtype(at::kByte).device(device))) {
  const BatchLayout on_device(size, memory_);
  batch_.tokens = on_device.tokens;
  batch_.positions = on_device.positions;
  batch_.dropout_keys = on_device.dropout_keys;
  batch_.target_rows = on_device.target_rows;
  batch_.target_ids = on_device.target_ids;
  batch_.num_tokens = size.tokens();
  batch_.num_targets = size.targets;
  ops::AttentionPlan::Flash flash;
  flash.offsets = on_device.segment_offsets;
  flash.longest = size.longest_segment;
  if (size.prefix > 0) {
    flash.sharing_rows = on_device.sharing_rows;
    flash.prefix_rows = on_device.prefix_rows;
    flash.sharing_offsets = on_device.sharing_offsets;
    flash.prefix_offsets = on_device.prefix_offsets;
    flash.most_sharing = size.most_sharing;
    flash.longest_prefix = size.longest_prefix;
    flash.segment_prefix = on_device.segment_prefix.view({-1, 2});
  }
  batch_.plan = ops::AttentionPlan(std::move(flash));
}

void FixedBatch::upload(const data::PackedBatch& batch) {
  const ops::PrefixRows rows(segments_of(batch));
  require(batch.num_tokens() == size_.tokens() && batch.num_targets() == size_.targets &&
              batch.num_segments() <= size_.segments && static_cast<int64_t>(rows.sharing.size()) == size_.sharing &&
              static_cast<int64_t>(rows.prefix.size()) == size_.prefix &&
              static_cast<int64_t>(rows.prefix_offsets.size()) <= size_.prefixes + 1,
          ErrorKind::Internal, "a batch of {} tokens and {} targets where {} and {} have room", batch.num_tokens(),
          batch.num_targets(), size_.tokens(), size_.targets);
  // Pinned, so that the copy waits for nothing; libtorch keeps it until the copy is done.
  const at::Tensor host = at::empty({memory_.numel()}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  const BatchLayout layout(size_, host);
  fill<int64_t>(layout.dropout_keys, batch.dropout_key);
  fill<int64_t>(layout.target_rows, batch.target_rows);
  fill<int64_t>(layout.sharing_rows, rows.sharing);
  fill<int64_t>(layout.prefix_rows, rows.prefix);
  fill<int32_t>(layout.tokens, batch.tokens);
  fill<int32_t>(layout.positions, batch.positions);
  fill<int32_t>(layout.target_ids, batch.target_ids);
  fill<int32_t>(layout.segment_offsets, batch.segment_offsets);
  fill<int32_t>(layout.sharing_offsets, rows.sharing_offsets);
  fill<int32_t>(layout.prefix_offsets, rows.prefix_offsets);
  fill<int32_t>(layout.segment_prefix, rows.of_segment);
  memory_.copy_(host, /*non_blocking=*/true);
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
