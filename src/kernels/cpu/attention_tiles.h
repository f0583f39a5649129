// Sizes of the attention kernels' tiles and of their scratch, and where a key row's gradient goes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slmi/kernels/cpu/attention.h"

namespace slmi::kernels::cpu::detail {

/// Score rows (queries x heads of a kv head) an item: at E = 64 its Q, O, dO and dQ are 48 KB each and stay in L2.
inline constexpr int64_t kMaxItemRows = 192;
/// Keys a block: K^T and V of a block are 16 KB each at E = 64 and stay in L1 or close by.
inline constexpr int64_t kKeyBlock = 64;
/// Score rows at a time in the backward pass: their P, dS, dO and Q are 12 KB each at E = 64 and stay close to L1.
inline constexpr int64_t kScoreRows = 48;
/// Score rows up to which keys are read where they lie: packing a block costs about as much as six rows of scores.
inline constexpr int64_t kFewRows = 6;
inline constexpr int64_t kMaxHeadDim = 256;
inline constexpr size_t kScratchAlignment = 64;

inline int64_t padded_head_dim(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}
/// Rows of an item, at least one query's.
inline int64_t max_item_rows(const AttentionShape& shape) {
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  return group > kMaxItemRows ? group : kMaxItemRows;
}

/// f32 values of scratch: the backward pass needs the most. See attention_*_simd.cpp for their layout.
inline size_t attention_scratch_floats(const AttentionShape& shape) {
  const int64_t e = padded_head_dim(shape.head_dim), rows = max_item_rows(shape) + 16;
  const int64_t queries = 3 * rows * e;               // Q, dO, dQ (forward: Q, O)
  const int64_t statistics = 2 * rows;                // lse, delta (forward: maximum, sum)
  const int64_t keys = 5 * kKeyBlock * e;             // K^T, V^T, K, dK, dV (forward: K^T, V)
  const int64_t scores = 2 * kScoreRows * kKeyBlock;  // P, dS (forward: a tile of P)
  return static_cast<size_t>(queries + statistics + keys + scores);
}

/// Where part `part` adds the gradient of key row `row`: the caller's buffer, or the part's own sum.
template <class T>
struct KeyGradient {
  const AttentionPlan& plan;
  const AttentionBackward<T>& args;
  int part;

  int64_t width() const { return plan.shape().num_kv_heads * plan.shape().head_dim; }
  /// This part's share: per shared row, dk [HK*E] and then dv [HK*E].
  float* share() const { return args.partials + part * plan.num_shared_rows() * 2 * width(); }
  float* dk(int64_t row) const {
    const int32_t slot = plan.shared_slot(row);
    return slot < 0 ? args.dk + row * width() : share() + slot * 2 * width();
  }
  float* dv(int64_t row) const {
    const int32_t slot = plan.shared_slot(row);
    return slot < 0 ? args.dv + row * width() : share() + (slot * 2 + 1) * width();
  }
};

}  // namespace slmi::kernels::cpu::detail
