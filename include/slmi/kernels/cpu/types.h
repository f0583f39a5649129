// Element types of the CPU kernels, and what all their headers have in common.
#pragma once

#include <cstdint>

namespace slmi::kernels::cpu {

// Common to every kernel of this directory (said once, here):
// - Raw pointers, no allocation, no thread started, no exception. Sizes are checked by the caller (ops, decode).
// - Work is given as [begin, end) of independent items, in the unit each header names; callers split the items over
//   threads as they like, and the result does not depend on the split unless a header says so.
// - Element type T is float or Bf16. Arithmetic and sums are f32; a Bf16 result is rounded once, to nearest even.
// - Rows may be strided: row r of x starts at x + r * x_stride, strides in elements, x_stride >= width. What lies
// between
//   the width and the stride is neither read nor written. No alignment beyond the element's own is needed.
// - `level` picks the instructions. SimdLevel::Scalar is the reference: plain loops that define the meaning. Avx2 and
//   Avx512 may sum in another order, and use fma and a vector exp (2 ulp); where a header says "equal bits", they do
//   not.

/// bf16 as stored: the upper half of an f32. Layout-compatible with at::BFloat16; conversions in base/half.h.
struct Bf16 {
  uint16_t bits;
};
static_assert(sizeof(Bf16) == 2);

}  // namespace slmi::kernels::cpu
