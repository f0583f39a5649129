// The search for scales of quantized blocks, many sub-blocks at a time: what GGUF's K types, and the 32-weight types
// with importances, spend their time on.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"

namespace slmi::kernels::cpu {

// Three searches for the scale (and minimum) of a sub-block that make  sum of w[i] * |x[i] - value(code[i])|^2  small,
// and the rounding of weights to codes once the scales themselves are quantized.
//
// Source    ggml (ggml-quants.c, 2026-08), the rules behind quantize_row_q*_K_ref and its forms with importances: the
//           same grids, weights and order of operations, so that blocks equal llama.cpp's bit for bit.
//           Departure: a quotient beyond 2^22 is clamped to the code range, where ggml's rounding wraps.
// Numerics  f32. Every sum runs over the sub-block in element order, one rounding an operation. The vector levels give
//           each sub-block a lane, so that no order changes: every level has the bits of SimdLevel::Scalar.
// Requires  x finite and |x| <= 32768 (then nothing overflows); weights finite and >= 0. Checked by quant.
// Errors    none; allocates nothing, starts no thread.
// Tested    tests/quant/k_blocks_test.cpp, tools/check-gguf-codecs.   Timed  tests/quant/bench_quantize.cpp.

/// Two super-blocks of 16 sub-blocks, or of 8; and a multiple of every level's lanes.
inline constexpr int64_t kMaxSubBlocks = 32;
inline constexpr int64_t kMaxSubBlockSize = 32;

/// The weight w of an element in the error that is made small.
enum class Weighting {
  Magnitude,          // |x|
  RmsPlusMagnitude,   // sqrt(mean over the sub-block of x^2) + |x|
  Square,             // x^2
  Importance,         // importance
  ImportanceAndSize,  // importance * sqrt(sigma2 + x^2)
};

struct SubBlocks {
  const float* x;                     // [count, size]
  const float* importance = nullptr;  // [count, size]; for the two weightings that name it
  const float* sigma2 = nullptr;      // [count]; ImportanceAndSize
  int64_t count;                      // 1..kMaxSubBlocks
  int64_t size;                       // 16 or 32
  Weighting weighting;
};

/// Magnitude: the error is |difference|, not its square.
enum class ErrorNorm { Square, Magnitude };

/// The grid of an affine search: candidates for 1 / scale are (max_code + first + step * i) / (high - low), i =
/// 0..last.
struct AffineGrid {
  int max_code;
  float first;
  float step;
  int last;
  ErrorNorm norm = ErrorNorm::Square;
};

/// x ~ scale * code - minimum, code 0..max_code, minimum >= 0. A constant sub-block (or one of zeros) has scale 0.
struct AffineFit {
  float scale[kMaxSubBlocks];
  float minimum[kMaxSubBlocks];
  float weight[kMaxSubBlocks];      // sum of w
  float code_scale[kMaxSubBlocks];  // the fit's own codes are round(code_scale * (x - code_base)), clamped
  float code_base[kMaxSubBlocks];
};

/// x ~ scale * code, code -levels..levels - 1. A sub-block of zeros has scale 0.
struct SymmetricFit {
  float scale[kMaxSubBlocks];
  float weight[kMaxSubBlocks];      // sum of w
  float code_scale[kMaxSubBlocks];  // the fit's own codes are round(code_scale * x), clamped; 0: no code was chosen
};

/// Each candidate of the grid is rounded to codes, then fitted to them by weighted least squares; the best one stays.
void affine_search(const SubBlocks& in, const AffineGrid& grid, AffineFit& out, SimdLevel level = simd().level);

/// As affine_search without minimum, over 1 / scale = -(levels + i / 10) / (value of largest magnitude), i = -9..9.
void symmetric_search(const SubBlocks& in, int levels, SymmetricFit& out, SimdLevel level = simd().level);

/// From 1 / scale = -levels / (value of largest magnitude), moves one code at a time while that lowers the error, at
/// most five rounds.
/// @param codes  i8 [count, size], -levels..levels - 1; in a sub-block of zeros -levels. code_scale is not written.
void descent_search(const SubBlocks& in, int levels, SymmetricFit& out, int8_t* codes, SimdLevel level = simd().level);

/// codes[j][i] = clamp(round((x[j][i] + offset[j]) / step[j]), lowest, highest) - lowest; ties to even.
/// A sub-block of step 0 is left as it is.
struct CodeRange {
  int lowest;
  int highest;
};
void round_codes(const float* x, int64_t count, int64_t size, const float* step, const float* offset, CodeRange range,
                 uint8_t* codes, SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
