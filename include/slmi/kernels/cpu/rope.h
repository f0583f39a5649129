// Rotary position embedding on the CPU. Conventions: types.h.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

enum class RopeDirection { Forward, Inverse };  // Inverse: rotation by the negative angle, the gradient of Forward

// Rotates each head in place, in the rotate-half layout: with h = E/2, p = positions[t],
//   x[i]     = x[i] * cos[p][i] - x[i + h] * sin[p][i]
//   x[i + h] = x[i + h] * cos[p][i] + x[i] * sin[p][i]      for i in [0, h)
//
// Source    Su et al. 2021, arXiv:2104.09864; layout of transformers' rotate_half.
// Shapes    x T [T, num_heads * E], rows x_stride apart (q and k side by side: num_heads = H + HK); cos, sin f32
//           [positions, E/2] contiguous; positions i32 [T].
// Requires  E even; positions within the table.
// Items     rows.
template <class T>
void rope_apply(T* x, int64_t x_stride, int64_t num_heads, int64_t head_dim, const float* cos, const float* sin,
                const int32_t* positions, RopeDirection direction, int64_t begin, int64_t end,
                SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
