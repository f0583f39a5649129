// Product of some rows with a big matrix, for decoding, on the CPU: the weights stream past once and are not packed
// first, which is what a GEMM spends half of its time on when there are few rows. Conventions: types.h.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

/// With more rows of x a GEMM that packs the weights first is as fast.
inline constexpr int64_t kMaxGemvRows = 64;

// y[m][n] = sum_k x[m][k] * w[n][k]   for m in [0, M), n in [begin, end)
//
// Shapes    x X [M, K], w W [N, K], y Y [M, N], all strided; X, W, Y each float or Bf16.
// Requires  M >= 1; kMaxGemvRows says up to where it pays.
// Numerics  an element's sum is made in the same order whatever M, begin and end: a row's results do not depend on the
//           rows beside it.
// Traffic   w once; x and y stay in the caches. Runs at memory bandwidth up to about M = 4.
// Items     columns of y (rows of w).
template <class X, class W, class Y>
void gemv(const X* x, int64_t x_stride, int64_t num_rows, const W* w, int64_t w_stride, int64_t k, Y* y,
          int64_t y_stride, int64_t begin, int64_t end, SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
