// Products of bf16 rows with a bf16 matrix packed beforehand, on the CPU: what training's frozen weights go through.
// Conventions: types.h.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

/// Columns of one panel of a packed matrix. A panel holds, for each pair of rows (2p, 2p + 1), its columns' two values
/// side by side: what one AVX512_BF16 dot product takes, or a row of an AMX tile, so that the matrix is read strictly
/// forward.
inline constexpr int64_t kGemmPanel = 32;

/// Panels of a matrix of n columns.
constexpr int64_t gemm_panels(int64_t n) {
  return (n + kGemmPanel - 1) / kGemmPanel;
}

/// Elements of the packed form of B [k, n]; k even. What no column fills must be zero: the caller clears it once.
constexpr int64_t gemm_packed_elements(int64_t k, int64_t n) {
  return gemm_panels(n) * kGemmPanel * k;
}

/// Writes a block of B [k, n] into its packed form: element (i, j) of the block is b[i * k_stride + j * n_stride] and
/// goes to row k_begin + i, column n_begin + j. Other elements are left, so that part of a matrix can change in place.
struct GemmBlock {
  int64_t k_begin, k_end, n_begin, n_end;
};
void gemm_pack(const Bf16* b, int64_t k_stride, int64_t n_stride, const GemmBlock& block, int64_t k, Bf16* packed);

/// A [M, k + tail_k], its last columns in a buffer of their own (or absent: tail_k = 0).
struct GemmRows {
  const Bf16* a;
  int64_t a_stride, k;
  const Bf16* tail = nullptr;
  int64_t tail_stride = 0, tail_k = 0;
};

// y[m][n] = sum_k A[m][k] * B[k][n]   for rows m in [begin, end) and panels of columns in [panel_begin, panel_end)
//
// Shapes    A X [M, K], B [K, N] packed, y [M, N]; K = k + tail_k.
// Requires  k and tail_k even.
// Traffic   B once a block of rows; the rows' block stays in the second-level cache.
// Items     rows, and panels: a result does not depend on how either is split.
// Speed     with AVX512_BF16 about the rate of its dot products. On Intel's processors that is half of f32's; they have
//           AMX, with sixteen times as much. The scalar reference is for tests alone.
void gemm(const GemmRows& rows, const Bf16* packed, int64_t n, Bf16* y, int64_t y_stride, int64_t begin, int64_t end,
          int64_t panel_begin, int64_t panel_end, const Simd& use = simd());

}  // namespace slmi::kernels::cpu
