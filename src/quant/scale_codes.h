// The scales of a super-block's sub-blocks, quantized in turn: one f16 scale of scales and a small code each.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "slmi/kernels/cpu/simd.h"

namespace slmi::quant {

/// Codes 0..max_code for scales (or minimums) >= 0. Without weights the largest scale gets max_code; with weights the
/// sum of w * (scale - d * code)^2 is made small: a grid of 1 / d, then one code at a time while that helps.
/// @param scales, weights  f32 [codes.size()], codes.size() <= 16; weights may be null.
/// @returns d, to be stored as f16. All zero: d = 0, codes 0.
float positive_scale_codes(const float* scales, const float* weights, int max_code, std::span<uint8_t> codes);

struct SignedScales {
  float d;
  std::array<int8_t, 16> codes;
};

/// Codes -levels..levels - 1 for 16 scales of both signs: the one of largest magnitude gets -levels.
/// d = 0 and all codes 0 if no magnitude is as large as `least`.
SignedScales signed_scale_codes(const float* scales, int levels, float least);

/// Codes -32..31 for 16 scales by the weighted symmetric search; d = 0 and all codes -32 if all are zero.
SignedScales searched_scale_codes(const float* scales, const float* weights, kernels::cpu::SimdLevel level);

}  // namespace slmi::quant
