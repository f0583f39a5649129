// Numbers to NF4 and back on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"
#include "slmi/kernels/nf4_codebook.h"

namespace slmi::kernels::cuda {

// Codes of blocks of 64 values, and each block's largest magnitude.
//
// Source    QLoRA, Dettmers et al. 2023, arXiv:2305.14314; ties, zero blocks and the short last block as in
//           quant::nf4_quantize. Departure from bitsandbytes' CUDA kernel: the reciprocal of absmax is rounded to
//           nearest, as it is on the CPU (theirs is compiled with --use_fast_math).
// Shapes    x T [count] contiguous, the row-major flattened weight; codes u8 [ceil(count / 2)]; absmax f32
//           [ceil(count / 64)], of a block with a value that is none: NaN or infinite.
// Numerics  equal bits to quant::nf4_quantize of the same values without double quantization.
// Traffic   count * sizeof(T) + count/2 + count/16 bytes.
template <class T>
void nf4_quantize(const T* x, int64_t count, uint8_t* codes, float* absmax, Stream stream);

// The second level: codes of (absmax - offset) in blocks of 256, and their largest magnitudes.
//
// Shapes    absmax f32 [blocks], finite; map f32 [256] in device memory, dynamic_map(); codes u8 [blocks]; absmax2 f32
//           [ceil(blocks / 256)].
// Numerics  equal bits to quant::quantize_scales.
void nf4_quantize_scales(const float* absmax, int64_t blocks, float offset, const float* map, uint8_t* codes,
                         float* absmax2, Stream stream);

// out[r][c] = value r * k + c of the matrix (nf4_codebook.h).
//
// Shapes    matrix: planes in device memory; map f32 [256] in device memory, dynamic_map(), or null if the scales are
//           not doubly quantized; out T [n, k].
// Numerics  equal bits to the CPU's.
template <class T>
void nf4_dequantize(const Nf4View& matrix, const float* map, T* out, int64_t out_stride, Stream stream);

}  // namespace slmi::kernels::cuda
