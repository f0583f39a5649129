// Element types of the CUDA kernels, and what all their headers have in common.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/types.h"

struct CUstream_st;  // cudaStream_t is a pointer to it; these headers compile where there is no CUDA

namespace slmi::kernels::cuda {

// Common to every kernel of this directory (said once, here):
// - Raw device pointers, no allocation, nothing waited for: work is put on the stream, and may be captured into a
// graph.
// - Sizes and types are checked by the caller (ops). A launch that fails throws Error{Internal} naming the kernel.
// - Element type T is float, Bf16 or F16. Arithmetic and sums are f32; a 16-bit result is rounded once, to nearest
// even.
// - Rows may be strided: row r of x starts at x + r * x_stride, strides in elements, x_stride >= width. What lies
//   between the width and the stride is neither read nor written. No alignment beyond the element's own is needed;
//   rows whose starts are multiples of 16 bytes are read and written fastest.
// - The scalar kernels of kernels/cpu are the reference. Results do not depend on the card, and sums are in an order
//   that depends on the shape alone: two runs give the same bits.

using cpu::Bf16;

/// f16 as stored. Layout-compatible with at::Half.
struct F16 {
  uint16_t bits;
};
static_assert(sizeof(F16) == 2);

using Stream = CUstream_st*;

}  // namespace slmi::kernels::cuda
