// Rotary position embedding on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cpu/rope.h"
#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

using cpu::RopeDirection;

// Rotates each head of x into out, which may be x, as cpu::rope_apply.
//
// Source    Su et al. 2021, arXiv:2104.09864; layout of transformers' rotate_half.
// Shapes    x and out T [rows, num_heads * head_dim]; cos, sin f32 [positions, head_dim/2] contiguous; positions i32
// [rows]. Requires  head_dim even; positions within the table. Numerics  equal bits to the CPU's.
template <class T>
void rope_apply(const T* x, int64_t x_stride, int64_t rows, int64_t num_heads, int64_t head_dim, const float* cos,
                const float* sin, const int32_t* positions, RopeDirection direction, T* out, int64_t out_stride,
                Stream stream);

}  // namespace slmi::kernels::cuda
