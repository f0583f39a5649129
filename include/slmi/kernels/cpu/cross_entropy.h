// Negative log-likelihood of target tokens with its gradient, and greedy picking, on the CPU. Conventions: types.h.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

// loss[p] = lse[p] - logits[p][targets[p]],  lse[p] = log(sum_v exp(logits[p][v]))
//
// Shapes    logits T [P, V], rows stride apart; targets i32 [P], each in [0, V); loss f32 [P]; lse f32 [P], or null.
// Numerics  a NaN or +inf logit gives loss NaN; logits of -inf count as probability 0.
// Items     rows.
template <class T>
void cross_entropy_loss(const T* logits, int64_t stride, int64_t vocabulary, const int32_t* targets, float* loss,
                        float* lse, int64_t begin, int64_t end, SimdLevel level = simd().level);

// The same, and logits[p] = (softmax(logits[p]) - onehot(targets[p])) * scale in the logits' place.
template <class T>
void cross_entropy_gradient(T* logits, int64_t stride, int64_t vocabulary, const int32_t* targets, float scale,
                            float* loss, float* lse, int64_t begin, int64_t end, SimdLevel level = simd().level);

/// The token picked from one row.
struct Picked {
  int32_t id = -1;               // -1: no token was allowed, or every allowed logit is NaN
  float log_probability = 0.0f;  // under the softmax over the whole vocabulary, whatever was allowed
};

// The token with the greatest logit; the lowest id wins a tie.
//
// Shapes    logits T [V]; allowed: bit v % 64 of word v / 64 says whether token v may be picked, ceil(V / 64) words;
// null:
//           all may.
template <class T>
Picked pick(const T* logits, int64_t vocabulary, const uint64_t* allowed, SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
