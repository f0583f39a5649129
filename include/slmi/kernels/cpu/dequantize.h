// Dequantization on the CPU: rows of any stored format to f32 or bf16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/gguf_blocks.h"
#include "slmi/kernels/nf4_codebook.h"

namespace slmi::kernels::cpu {

// Rows [row_begin, row_end) of a matrix of k columns:  out[r - row_begin][c] = w[r][c].
//
// Shapes    src: the packed rows, row r at src + r * (k / block_size * block_bytes); Nf4View: see there, rows may
//           share a block and a byte;
//           dst: row r goes to dst + (r - row_begin) * dst_stride, dst_stride >= k elements; what lies between k and
//           dst_stride is left alone. u16 destinations receive bf16 bits.
// Requires  k a multiple of block_size(format); 0 <= row_begin <= row_end; src on an even address for block formats
//           (every GGUF tensor is), any for F32, F16, BF16, NF4. Checked by the caller (quant, ops).
// Traffic   reads each row once, writes k * 4 or k * 2 bytes: it runs at the speed of the output.
// Numerics  the formulas of gguf_blocks.h and nf4_codebook.h, one rounding an operation; bf16 is the f32 value rounded
//           to nearest even (BF16 to bf16 copies the bits). Every SIMD level gives the bits of SimdLevel::Scalar; of a
//           NaN only that it is one is promised, not its payload.
// Errors    none; allocates nothing, starts no thread: callers split the rows.
// Tested    tests/quant/dequantize_test.cpp.   Timed  tests/quant/bench_dequantize.cpp.

void dequantize_rows(BlockFormat format, const std::byte* src, float* dst, int64_t k, int64_t dst_stride,
                     int64_t row_begin, int64_t row_end, SimdLevel level = simd().level);
void dequantize_rows(BlockFormat format, const std::byte* src, uint16_t* dst, int64_t k, int64_t dst_stride,
                     int64_t row_begin, int64_t row_end, SimdLevel level = simd().level);

void nf4_dequantize_rows(const Nf4View& src, float* dst, int64_t dst_stride, int64_t row_begin, int64_t row_end,
                         SimdLevel level = simd().level);
void nf4_dequantize_rows(const Nf4View& src, uint16_t* dst, int64_t dst_stride, int64_t row_begin, int64_t row_end,
                         SimdLevel level = simd().level);

/// The scale of NF4 block b, through the second level where there is one.
float nf4_absmax(const Nf4View& src, int64_t b);

}  // namespace slmi::kernels::cpu
