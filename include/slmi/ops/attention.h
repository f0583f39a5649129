// Causal attention over packed segments, each with an optional shared prefix; for training, prefill and decoding alike.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "slmi/kernels/cpu/attention.h"
#include "slmi/ops/rope.h"
#include "slmi/ops/tensor.h"

namespace slmi::ops {

using kernels::cpu::AttentionPasses;
using kernels::cpu::AttentionSegment;

struct AttentionShape {
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  double scale() const;
};

/// Rows that see a prefix and rows of the prefixes, prefix by prefix in the order of their rows.
struct PrefixRows {
  explicit PrefixRows(const std::vector<AttentionSegment>& segments);

  std::vector<int64_t> sharing, prefix;
  std::vector<int32_t> sharing_offsets = {0}, prefix_offsets = {0};  // [prefixes + 1]
  std::vector<int32_t> of_segment;                                   // [S][2]: first row and length, 0: none
};

/// Which segments a batch has, with the index tensors that the device needs; built once a batch, used by every layer.
class AttentionPlan {
 public:
  AttentionPlan() = default;
  /// ForwardOnly spares the bookkeeping of gradients: decoding makes a plan a token.
  AttentionPlan(std::vector<AttentionSegment> segments, at::Device device,
                AttentionPasses passes = AttentionPasses::ForwardAndBackward);
  /// What FlashAttention over packed rows is given: a causal pass of every segment over itself, and a pass of all that
  /// share a prefix over that. Empty offsets if the segments do not follow each other from row 0 on, each over its own
  /// keys, as in training; built on first use.
  struct Flash {
    at::Tensor offsets;   // i32 [S + 1], of queries and keys
    int64_t longest = 0;  // tokens of a segment
    // Undefined where nobody shares a prefix:
    at::Tensor sharing_rows, prefix_rows;        // i64, as PrefixRows has them
    at::Tensor sharing_offsets, prefix_offsets;  // i32 [prefixes + 1]
    int64_t most_sharing = 0, longest_prefix = 0;
    at::Tensor segment_prefix;  // i32 [S, 2]
  };
  /// For FlashAttention alone: its tensors may be filled anew later.
  explicit AttentionPlan(Flash flash);
  const std::vector<AttentionSegment>& segments() const { return segments_; }

  /// Padded gather indices for the plain libtorch road: built on first use.
  struct Padded {
    at::Tensor query_index;  // i64 [S, Lq], row of the query tensor; padding points at row 0
    at::Tensor query_valid;  // i64 [n], flat positions in [S * Lq] that hold a real query
    at::Tensor query_rows;   // i64 [n], their rows
    at::Tensor key_index;    // i64 [S, Lk]
    at::Tensor mask;         // f32 [S, 1, Lq, Lk]: 0 or -inf
  };
  const Padded& padded() const;
  const Flash& flash() const;
  /// The CPU kernels' own plan: built on first use, for the current number of threads.
  const kernels::cpu::AttentionPlan& cpu(const AttentionShape& shape) const;

 private:
  std::vector<AttentionSegment> segments_;
  at::Device device_ = at::kCPU;
  AttentionPasses passes_ = AttentionPasses::ForwardAndBackward;
  mutable Padded padded_;
  mutable std::shared_ptr<const Flash> flash_;
  mutable std::shared_ptr<const kernels::cpu::AttentionPlan> cpu_;
};

/// Whether a plan of Flash tensors alone will do for training: a GPU from sm_80 on, a 16-bit type, a head width that
/// libtorch's FlashAttention takes.
bool flash_serves(at::Device device, at::ScalarType type, const AttentionShape& shape);

/// out = softmax(q k^T / sqrt(E)) v per segment and head; head h reads kv head h / (H / HK).
/// q [Tq, H*E], k and v [rows, HK*E], out [Tq, H*E]: rows may be strided. lse f32 [Tq, H] gets the log-sum-exp of the
/// scores. Returns out as attention_backward takes it without another copy: out itself, or the same in rows of its own.
at::Tensor attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                             const AttentionPlan& plan, const at::Tensor& out, const at::Tensor& lse);

/// How q and k [T, *] were rotated by rope_apply.
struct Rotation {
  const RopeTable& table;
  const at::Tensor& positions;  // i32 [T]
};

/// Gradients of the same, side by side in d_qkv [T, (H + 2 HK) * E], all of which is written (rows that no segment sees
/// get 0): those of q and k as they were before the rotation, if there was one, and that of v.
void attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const AttentionShape& shape,
                        const AttentionPlan& plan, const std::optional<Rotation>& rotation, const at::Tensor& d_qkv);

}  // namespace slmi::ops
