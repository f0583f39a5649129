// Codes of GGUF's 32-weight blocks without a search: the plain Q4_0, Q4_1, Q5_0 and Q5_1.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/gguf_blocks.h"

namespace slmi::kernels::cpu {

// One scale (and base) a block, and the code of each of its kSmallBlock weights.
//
// Source    ggml (ggml-quants.c, 2026-08), quantize_row_q{4,5}_{0,1}_ref: the same operations in the same order, so
// that
//           blocks equal llama.cpp's bit for bit. Departure: none.
// Shapes    x f32 [count, 32];  scale, base f32 [count];  codes u8 [count, 32].  Any alignment.
// Requires  x finite. Checked by quant.
// Numerics  f32, one rounding an operation; a code is cut to an integer. Where a subnormal scale has no finite
//           reciprocal, or a range overflows, codes that come of it are 0, as on x86 for ggml. Every level has the bits
//           of SimdLevel::Scalar, signs of zeros among them.
// Traffic   5 bytes a weight; less than one operation a byte and level, so that memory is the limit.
// Errors    none; allocates nothing, starts no thread.
// Tested    tests/quant/small_blocks_test.cpp, gguf_codec_test.cpp.   Timed  tests/quant/bench_quantize.cpp.

/// x ~ scale * (code - levels), code 0..2 * levels - 1: scale = -(the first value of largest magnitude) / levels, so
/// that this value is met exactly.
void round_symmetric_blocks(const float* x, int64_t count, int levels, float* scale, uint8_t* codes,
                            SimdLevel level = simd().level);

/// x ~ scale * code + base, code 0..max_code, between the block's smallest value (base; of zeros the first) and its
/// largest.
void round_affine_blocks(const float* x, int64_t count, int max_code, float* scale, float* base, uint8_t* codes,
                         SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
