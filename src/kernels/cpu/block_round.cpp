// The rounding of block_round.h: reference and choice of level.
#include "slmi/kernels/cpu/block_round.h"

#include <cmath>

#include "levels.h"

namespace slmi::kernels::cpu {
namespace detail {
namespace {

float reciprocal(float d) {
  return d != 0.0f ? 1.0f / d : 0.0f;
}

/// What no int holds becomes 0, as the vectors' conversions give it (the lowest int, clamped).
uint8_t clamp_code(float value, int max) {
  const int code = std::fabs(value) < 0x1p31f ? static_cast<int>(value) : 0;
  return static_cast<uint8_t>(code < 0 ? 0 : code > max ? max : code);
}

}  // namespace

template <>
void BlockRound<SimdLevel::Scalar>::symmetric(const float* x, int64_t count, int levels, float* scale, uint8_t* codes) {
  const float half = static_cast<float>(levels) + 0.5f;
  for (int64_t j = 0; j < count; ++j, x += kSmallBlock, codes += kSmallBlock) {
    float largest = 0.0f;
    for (int64_t i = 0; i < kSmallBlock; ++i) {
      if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
    }
    scale[j] = largest / static_cast<float>(-levels);
    const float inverse = reciprocal(scale[j]);
    for (int64_t i = 0; i < kSmallBlock; ++i) codes[i] = clamp_code(x[i] * inverse + half, 2 * levels - 1);
  }
}

template <>
void BlockRound<SimdLevel::Scalar>::affine(const float* x, int64_t count, int max_code, float* scale, float* base,
                                           uint8_t* codes) {
  for (int64_t j = 0; j < count; ++j, x += kSmallBlock, codes += kSmallBlock) {
    float low = x[0];
    float high = x[0];
    for (int64_t i = 1; i < kSmallBlock; ++i) {
      if (x[i] < low) low = x[i];
      if (x[i] > high) high = x[i];
    }
    scale[j] = (high - low) / static_cast<float>(max_code);
    base[j] = low;
    const float inverse = reciprocal(scale[j]);
    for (int64_t i = 0; i < kSmallBlock; ++i) codes[i] = clamp_code((x[i] - low) * inverse + 0.5f, max_code);
  }
}

}  // namespace detail

void round_symmetric_blocks(const float* x, int64_t count, int levels, float* scale, uint8_t* codes, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> { detail::BlockRound<L>::symmetric(x, count, levels, scale, codes); });
}

void round_affine_blocks(const float* x, int64_t count, int max_code, float* scale, float* base, uint8_t* codes,
                         SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> { detail::BlockRound<L>::affine(x, count, max_code, scale, base, codes); });
}

}  // namespace slmi::kernels::cpu
