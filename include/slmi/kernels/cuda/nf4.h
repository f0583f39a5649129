// Numbers to NF4 and back on a GPU. Conventions: types.h.
#pragma once

#include <array>

#include "slmi/kernels/cuda/types.h"
#include "slmi/kernels/nf4_codebook.h"

namespace slmi::kernels::cuda {

/// kNf4Borders as bitsandbytes' CUDA kernels have them: written in 16 decimal digits there, so that four midpoints,
/// each a tie between two f32 numbers, are the other of the two.
inline constexpr std::array<float, 15> kNf4DecimalBorders = [] {
  std::array<float, 15> out = kNf4Borders;
  out[0] = -0.8480964004993439f;
  out[8] = 0.1202552504837513f;
  out[12] = 0.5016634166240692f;
  out[14] = 0.8614784181118011f;
  return out;
}();

/// A block's absmax below this, the least normal f32, counts as it: reciprocals of less are infinite.
inline constexpr float kNf4LeastDivisor = 0x1p-126f;

// Codes of blocks of 64 values, and each block's largest magnitude.
//
// Source    QLoRA, Dettmers et al. 2023, arXiv:2305.14314, in the bits of bitsandbytes' CUDA kernels: a value is
//           multiplied by the approximate reciprocal of its block's absmax (within 2 ulp), a tie takes the lower code.
//           Departure: in a block of nothing but zeros every code is that of zero (theirs is that of -1, and a scale
//           that was doubly quantized is not zero); absmax below kNf4LeastDivisor.
// Shapes    x T [count] contiguous, the row-major flattened weight; codes u8 [ceil(count / 2)]; absmax f32
//           [ceil(count / 64)], of a block with a value that is none: NaN or infinite.
// Numerics  codes of quant::nf4_quantize (bitsandbytes on the CPU) but where reciprocals or borders differ: fewer than
//           one in 10^7.
// Traffic   count * sizeof(T) + count/2 + count/16 bytes.
template <class T>
void nf4_quantize(const T* x, int64_t count, uint8_t* codes, float* absmax, Stream stream);

// The second level: codes of (absmax - offset) in blocks of 256, and their largest magnitudes.
//
// Shapes    absmax f32 [blocks], finite; map f32 [256] in device memory, dynamic_map(); codes u8 [blocks]; absmax2 f32
//           [ceil(blocks / 256)].
// Source    bitsandbytes' CUDA kernels: approximate reciprocals again; the nearest value of the map, a tie takes the
//           even code.
// Numerics  codes of quant::quantize_scales but where that one rounds to its grid first: about one in 500, each a
//           neighbour that is as near to within a grid step. absmax2: equal bits.
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
