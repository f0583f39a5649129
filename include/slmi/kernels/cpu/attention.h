// Causal attention over packed segments with shared prefixes, forward and backward, on the CPU. Conventions: types.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

/// Query i in [0, q_len) of a segment sees every prefix key and its own keys j <= own_len - q_len + i.
/// Begins are rows: q_begin of q/out/lse, prefix_begin of the prefix view, own_begin of the own view.
/// Requires q_len <= own_len, so that every query sees a key.
struct AttentionSegment {
  int64_t q_begin = 0, q_len = 0;
  int64_t prefix_begin = 0, prefix_len = 0;
  int64_t own_begin = 0, own_len = 0;
};

struct AttentionShape {
  int64_t num_heads = 0, num_kv_heads = 0;  // H, HK; H a multiple of HK; head h reads kv head h / (H / HK)
  int64_t head_dim = 0;                     // E: a multiple of 8, at most 256
  float scale = 0.0f;                       // of the scores, 1 / sqrt(E)
};

enum class AttentionPasses { ForwardOnly, ForwardAndBackward };

/// The work of a batch, cut into parts of about equal cost. Built once a batch (it allocates), used by every layer.
/// Read-only afterwards: safe to use from all threads.
class AttentionPlan {
 public:
  /// `num_parts`: how many pieces the caller will run in parallel, usually its number of threads.
  /// ForwardOnly saves the bookkeeping of the gradients (decoding makes a plan a token).
  AttentionPlan(const AttentionShape& shape, std::span<const AttentionSegment> segments, int num_parts,
                AttentionPasses passes);

  /// A block of queries of one segment, or one query each of several segments that share a prefix (decoding); with the
  /// query heads of one kv head.
  struct Item {
    int32_t segment, num_segments;  // the first one, and how many
    int32_t kv_head;
    int32_t query, num_queries;  // within the segment; 0 and 1 if there are several
    bool packed;                 // enough queries see the same keys to pack these (of several segments: the prefix)
  };
  const AttentionShape& shape() const { return shape_; }
  int num_parts() const { return num_parts_; }
  std::span<const AttentionSegment> segments() const { return segments_; }
  /// Items of one part, in order.
  std::span<const Item> items(int part) const;

  /// Bytes of scratch that each part needs, forward or backward; any alignment.
  size_t scratch_bytes() const;

  /// Key rows whose gradient comes from more than one part: shared prefixes, and segments cut between parts. Each part
  /// sums its own share of them in `partials`; attention_backward_reduce adds the shares in the order of the parts.
  int64_t num_shared_rows() const { return static_cast<int64_t>(shared_rows_.size()); }
  std::span<const int32_t> shared_rows() const { return shared_rows_; }
  /// Index of a key row in shared_rows, or -1.
  int32_t shared_slot(int64_t row) const { return slot_of_row_[static_cast<size_t>(row)]; }
  /// f32 values of `partials` that the backward pass needs: num_parts * num_shared_rows * 2 * HK * E.
  int64_t partials_size() const;

 private:
  void add_items(int64_t segment, int64_t run, int64_t block);
  void find_shared_rows();

  AttentionShape shape_;
  std::vector<AttentionSegment> segments_;
  int num_parts_ = 1;
  std::vector<Item> items_;
  std::vector<int64_t> part_begin_;   // [num_parts + 1]
  std::vector<int32_t> shared_rows_;  // ascending
  std::vector<int32_t> slot_of_row_;  // [rows of k]
};

/// Keys and values by row: kv head g of row r is at k + r * row_stride + g * E.
template <class KV>
struct KvView {
  const KV* k = nullptr;
  const KV* v = nullptr;
  int64_t row_stride = 0;
};

template <class T, class KV>
struct AttentionForward {
  const T* q = nullptr;  // [Tq, H*E]
  int64_t q_stride = 0;
  KvView<KV> prefix;  // may be null if no segment has a prefix; in training the same as own
  KvView<KV> own;
  T* out = nullptr;  // [Tq, H*E]
  int64_t out_stride = 0;
  float* lse = nullptr;  // [Tq, H] log-sum-exp of the scaled scores, or null
};

// out = softmax(scale * q k^T) v a segment and head, and lse.
//
// Source    Dao et al. 2022, arXiv:2205.14135 (FlashAttention): no score matrix is kept.
// Numerics  scores, softmax and sums in f32. A row's result does not depend on num_parts.
// Scratch   plan.scratch_bytes() for each part that runs at a time.
// Items     parts of the plan: call once for each part in [0, num_parts).
template <class T, class KV>
void attention_forward(const AttentionPlan& plan, const AttentionForward<T, KV>& args, int part, std::byte* scratch,
                       SimdLevel level = simd().level);

template <class T>
struct AttentionBackward {
  const T* q = nullptr;  // [Tq, H*E], after rotary embedding, as the forward pass saw it
  int64_t q_stride = 0;
  KvView<T> kv;  // one buffer for prefix and own rows
  const T* out = nullptr;
  int64_t out_stride = 0;
  const T* d_out = nullptr;
  int64_t d_out_stride = 0;
  const float* lse = nullptr;  // [Tq, H]
  T* dq = nullptr;             // [Tq, H*E], written; may be q or d_out (equal strides)
  int64_t dq_stride = 0;
  float* dk = nullptr;  // [rows, HK*E] contiguous, zeroed by the caller, added to
  float* dv = nullptr;
  float* partials = nullptr;  // f32 [plan.partials_size()], need not be initialized; may be null if that is 0
};

// Gradients of attention_forward. First attention_backward for every part, then (after all of them have ended)
// attention_backward_reduce for every part; both may run in parallel over the parts.
//
// Requires  no key row beyond the rows of kv; own rows of two segments disjoint (prefix rows may be anything).
// Numerics  f32. Equal bits for equal num_parts; dq does not depend on num_parts at all.
template <class T>
void attention_backward(const AttentionPlan& plan, const AttentionBackward<T>& args, int part, std::byte* scratch,
                        SimdLevel level = simd().level);
template <class T>
void attention_backward_reduce(const AttentionPlan& plan, const AttentionBackward<T>& args, int part);

}  // namespace slmi::kernels::cpu
