// What the searches for scales have in common, for every level: rows laid out so that each lane has one of its own.
// Include vec_scalar.h or vec.h first.
#pragma once

#include <cstdint>

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

/// Element i of all rows at out + i * kLanes; lanes without a row hold zeros. `stride` is from a row to the next.
inline void transpose(const float* rows, int64_t stride, int64_t num_rows, int64_t size, float* out) {
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    for (int64_t i = 0; i < size; ++i) out[i * kLanes + lane] = lane < num_rows ? rows[lane * stride + i] : 0.0f;
  }
}

/// The first of the values of largest magnitude.
inline F extreme_of(const float* x, int64_t size) {
  F extreme = zero();
  for (int64_t i = 0; i < size; ++i) {
    const F value = load(x + i * kLanes);
    extreme = select(less(abs(extreme), abs(value)), value, extreme);
  }
  return extreme;
}

struct ProductSums {
  F xl, ll;  // sums of w * x * code, w * code^2
};

inline F clamp(F x, F low, F high) {
  return max(min(x, high), low);
}

}  // namespace SLMI_LEVEL_NAMESPACE
}  // namespace slmi::kernels::cpu::detail
