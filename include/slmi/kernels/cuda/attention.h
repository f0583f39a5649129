// Causal attention over short packed segments, each with an optional shared prefix, and its gradient, on tensor cores.
// Conventions: types.h.
//
// Letters: H query heads, HK key heads, G = H / HK, E width of a head. The query heads of one key head stand in one
// tile: rows of a few tokens fill it.
#pragma once

#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

struct AttentionShape {
  int num_heads = 0, num_kv_heads = 0, head_dim = 0;
  float scale = 0.0f;  // of q k^T
};

/// Segments follow each other from row 0 on. All arrays in device memory, so that a captured pass serves other batches.
struct AttentionSegments {
  const int32_t* offsets = nullptr;  // [count + 1]; empty segments are skipped
  const int32_t* prefix = nullptr;  // [count][2]: first row of the prefix and its length, 0: none; null: no segment has
  int count = 0;
  int longest = 0;  // tokens; no segment has more
};

/// Who shares which prefix, for the prefixes' gradients.
struct AttentionPrefixes {
  const int64_t* rows = nullptr;             // rows of all prefixes, prefix by prefix
  const int32_t* offsets = nullptr;          // [count + 1], into rows
  const int64_t* sharing_rows = nullptr;     // rows that see a prefix, prefix by prefix
  const int32_t* sharing_offsets = nullptr;  // [count + 1]
  int count = 0;
  int longest = 0;  // tokens; no prefix has more
  int total = 0;    // tokens of all prefixes
};

/// Whether the kernels below take this on a card of this compute capability: tensor cores, a head width of 64 or 128,
/// rows that start at multiples of 16 bytes.
template <class T>
bool attention_fits(int compute_capability, const AttentionShape& shape, const T* q, int64_t q_stride, const T* k,
                    const T* v, int64_t kv_stride);

template <class T>
struct AttentionInput {
  const T* q = nullptr;  // [rows, H * E]
  int64_t q_stride = 0;
  const T *k = nullptr, *v = nullptr;  // [rows, HK * E]
  int64_t kv_stride = 0;
};

// out = softmax(q k^T * scale) v over the prefix and the own tokens up to each row's; head h reads key head h / G.
//
// Source    Dao 2023, arXiv:2307.08691 (online softmax); the tile over grouped heads: Shazeer 2019, arXiv:1911.02150.
// Shapes    out T [rows, H * E]; lse f32 [rows, H], the log-sum-exp of the scores.
// Numerics  scores and sums in f32, probabilities rounded to T for their product.
template <class T>
void attention_forward(const AttentionInput<T>& in, const AttentionShape& shape, const AttentionSegments& segments,
                       T* out, int64_t out_stride, float* lse, Stream stream);

/// f32 values that attention_backward needs.
int64_t attention_backward_scratch(int64_t rows, const AttentionShape& shape, const AttentionPrefixes& prefixes);

template <class T>
struct AttentionGradient {
  const T* d_out = nullptr;  // [rows, H * E]
  int64_t d_out_stride = 0;
  const T* out = nullptr;  // as the forward pass wrote it, and lse
  int64_t out_stride = 0;
  const float* lse = nullptr;
  T* dq = nullptr;  // like q
  int64_t dq_stride = 0;
  T *dk = nullptr, *dv = nullptr;  // like k
  int64_t d_kv_stride = 0;
};

// The gradients of the same; dq, dk and dv are written.
//
// Numerics  sums in f32 in an order that depends on the sizes alone: equal bits in every run. The gradient of a prefix
//           is rounded twice: its own tokens' part, and with it that of the rows behind it.
template <class T>
void attention_backward(const AttentionInput<T>& in, const AttentionGradient<T>& gradient, int64_t rows,
                        const AttentionShape& shape, const AttentionSegments& segments,
                        const AttentionPrefixes& prefixes, float* scratch, Stream stream);

}  // namespace slmi::kernels::cuda
