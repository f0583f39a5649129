// NF4 back to numbers on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"
#include "slmi/kernels/nf4_codebook.h"

namespace slmi::kernels::cuda {

// out[r][c] = value r * k + c of the matrix (nf4_codebook.h).
//
// Shapes    matrix: planes in device memory; map f32 [256] in device memory, dynamic_map(), or null if the scales are
//           not doubly quantized; out T [n, k].
// Numerics  equal bits to the CPU's.
template <class T>
void nf4_dequantize(const Nf4View& matrix, const float* map, T* out, int64_t out_stride, Stream stream);

}  // namespace slmi::kernels::cuda
