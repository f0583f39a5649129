// Scalar loads and stores of the reference kernels.
#pragma once

#include "slmi/base/half.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu::detail {

inline float to_f32(float x) {
  return x;
}
inline float to_f32(Bf16 x) {
  return bf16_to_f32(x.bits);
}

template <class T>
T from_f32(float x);
template <>
inline float from_f32<float>(float x) {
  return x;
}
template <>
inline Bf16 from_f32<Bf16>(float x) {
  return {f32_to_bf16(x)};
}

}  // namespace slmi::kernels::cpu::detail
