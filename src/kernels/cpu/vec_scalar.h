// The part of vec.h that code written once for all levels needs, with vectors of one lane: the reference.
#pragma once

#include <cmath>
#include <cstdint>

#include "slmi/kernels/cpu/simd.h"

#define SLMI_LEVEL_NAMESPACE scalar

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

inline constexpr SimdLevel kLevel = SimdLevel::Scalar;
inline constexpr int64_t kLanes = 1;
using F = float;
using M = bool;

inline F zero() {
  return 0.0f;
}
inline F all(float x) {
  return x;
}
inline F load(const float* p) {
  return *p;
}
inline void store(float* p, F x) {
  *p = x;
}
inline F add(F a, F b) {
  return a + b;
}
inline F sub(F a, F b) {
  return a - b;
}
inline F mul(F a, F b) {
  return a * b;
}
inline F div(F a, F b) {
  return a / b;
}
inline F sqrt(F a) {
  return std::sqrt(a);
}
inline F abs(F a) {
  return std::fabs(a);
}
/// b if either is NaN, as the instruction.
inline F max(F a, F b) {
  return a > b ? a : b;
}
inline F min(F a, F b) {
  return a < b ? a : b;
}
/// To the nearest integer, ties to even.
inline F round_even(F x) {
  return std::nearbyint(x);
}
inline M less(F a, F b) {
  return a < b;
}
inline M both(M a, M b) {
  return a && b;
}
inline bool any(M m) {
  return m;
}
inline F select(M m, F a, F b) {
  return m ? a : b;
}

}  // namespace SLMI_LEVEL_NAMESPACE

using namespace SLMI_LEVEL_NAMESPACE;  // NOLINT: one level a translation unit

}  // namespace slmi::kernels::cpu::detail
