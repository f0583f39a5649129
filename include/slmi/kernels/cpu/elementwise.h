// Conversions between f32 and bf16 with strides, scaling, adding and transposing, on the CPU. Conventions: types.h.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

// All three: equal bits at every level; a NaN stays a NaN. Items are rows (of src for transposing). S and D are float
// or Bf16, each independent of the other.

/// dst[r][c] = src[r][c].  src S [rows, width], dst D [rows, width], strided.
template <class S, class D>
void convert_rows(const S* src, int64_t src_stride, D* dst, int64_t dst_stride, int64_t width, int64_t begin,
                  int64_t end, SimdLevel level = simd().level);

/// dst[r][c] = src[r][c] * scale, e.g. s * B into the last columns of an extended weight.
template <class S, class D>
void scale_rows(const S* src, int64_t src_stride, float scale, D* dst, int64_t dst_stride, int64_t width, int64_t begin,
                int64_t end, SimdLevel level = simd().level);

/// dst[r][c] += src[r][c] * scale in f32 (product rounded, then sum rounded).  dst f32.
template <class S>
void add_scaled_rows(const S* src, int64_t src_stride, float scale, float* dst, int64_t dst_stride, int64_t width,
                     int64_t begin, int64_t end, SimdLevel level = simd().level);

/// dst[c][r] = src[r][c] * scale.  src S [rows, width], dst D [width, rows]; rows [begin, end) of src are done.
template <class S, class D>
void transpose_rows(const S* src, int64_t src_stride, float scale, D* dst, int64_t dst_stride, int64_t width,
                    int64_t begin, int64_t end, SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
