// Dropout by counter on the CPU: a mask that depends on names alone, never on the order of evaluation. See types.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

/// What the mask of a call depends on, beside row key, position and channel.
struct DropoutKey {
  uint64_t seed = 0;
  int64_t step = 0;
  uint32_t site = 0;         // which input of the model
  double probability = 0.0;  // in [0, 1); rounded to a multiple of 2^-16, see dropout_threshold
};

/// A 16-bit draw below this is dropped: round(probability * 2^16), at most 65535.
inline uint32_t dropout_threshold(double probability) {
  return static_cast<uint32_t>(std::clamp(std::nearbyint(probability * 65536.0), 0.0, 65535.0));
}

// out[t][c] = keep(t, c) ? x[t][c] * scale : 0,  scale = 1 / (1 - threshold / 2^16), so that the expectation is exact
//
// The mask: Philox4x32-10 (base/random.h) with key = splitmix(splitmix(splitmix(seed) ^ step) ^ site) and counter
//   {c / 8, position, row key low, row key high}; channel c takes the 16 bits number c % 8 of its 128, low half of a
//   word first; the channel is kept if they are >= threshold. Backward: the same call on the gradient.
// Shapes    x, out T [T, width], strided, may be the same; row_keys u64 [T]; positions i32 [T].
// Numerics  equal bits at every level.
// Items     rows.
template <class T>
void apply_dropout(const T* x, int64_t x_stride, const DropoutKey& key, const uint64_t* row_keys,
                   const int32_t* positions, int64_t width, T* out, int64_t out_stride, int64_t begin, int64_t end,
                   SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
