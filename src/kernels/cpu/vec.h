// Vectors of f32 for the *_simd.cpp files, which are compiled once with AVX2 + FMA + F16C and once with AVX-512 as
// well.
//
// Everything lives in a namespace of its own for each level, and these files use nothing from the standard library and
// no inline function of other headers: the linker keeps one copy of an inline function, which could be the one with
// instructions that this CPU lacks.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

#if defined(__AVX512F__)
#define SLMI_LEVEL_NAMESPACE avx512
#else
#define SLMI_LEVEL_NAMESPACE avx2
#endif

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

/// How many lanes of a vector an operation touches: all, or the first n (1 <= n < kLanes; the others read as 0).
struct All {};
struct First {
  int64_t n;
};

#if defined(__AVX512F__)

inline constexpr SimdLevel kLevel = SimdLevel::Avx512;
inline constexpr int64_t kLanes = 16;
using F = __m512;

inline __mmask16 mask(First lanes) {
  return static_cast<__mmask16>((1u << lanes.n) - 1u);
}

inline F zero() {
  return _mm512_setzero_ps();
}
inline F all(float x) {
  return _mm512_set1_ps(x);
}
inline F load(const float* p, All = {}) {
  return _mm512_loadu_ps(p);
}
inline F load(const float* p, First lanes) {
  return _mm512_maskz_loadu_ps(mask(lanes), p);
}
inline F widen(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline F load(const Bf16* p, All = {}) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F load(const Bf16* p, First lanes) {
  return widen(_mm256_maskz_loadu_epi16(mask(lanes), p));
}
inline void store(float* p, F x, All = {}) {
  _mm512_storeu_ps(p, x);
}
inline void store(float* p, F x, First lanes) {
  _mm512_mask_storeu_ps(p, mask(lanes), x);
}
/// To nearest even by integer arithmetic, as base/half.h: AVX512_BF16's conversion flushes subnormals.
inline __m256i narrow(F x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i biased = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i rounded = _mm512_mask_or_epi32(_mm512_srli_epi32(biased, 16), nan, upper, _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(rounded);
}
inline void store(Bf16* p, F x, All = {}) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x));
}
inline void store(Bf16* p, F x, First lanes) {
  _mm256_mask_storeu_epi16(p, mask(lanes), narrow(x));
}

inline F add(F a, F b) {
  return _mm512_add_ps(a, b);
}
inline F sub(F a, F b) {
  return _mm512_sub_ps(a, b);
}
inline F mul(F a, F b) {
  return _mm512_mul_ps(a, b);
}
inline F div(F a, F b) {
  return _mm512_div_ps(a, b);
}
inline F sqrt(F a) {
  return _mm512_sqrt_ps(a);
}
/// a * b + c, rounded once.
inline F fma(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
/// c - a * b, rounded once.
inline F fnma(F a, F b, F c) {
  return _mm512_fnmadd_ps(a, b, c);
}
/// A NaN in b stays, one in a does not.
inline F max(F a, F b) {
  return _mm512_max_ps(a, b);
}
inline F min(F a, F b) {
  return _mm512_min_ps(a, b);
}
inline float sum(F a) {
  return _mm512_reduce_add_ps(a);
}
inline float greatest(F a) {
  return _mm512_reduce_max_ps(a);
}
/// a in the first n lanes, b in the others; any n.
inline F first_of(int64_t n, F a, F b) {
  const int64_t lanes = n < 0 ? 0 : n > kLanes ? kLanes : n;
  return _mm512_mask_mov_ps(b, static_cast<__mmask16>((1u << lanes) - 1u), a);
}
inline F round_even(F x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/// x * 2^n for integer n in [-216, 188].
inline F scale_by_power(F x, F n) {
  return _mm512_scalef_ps(x, n);
}
inline bool any_nan(F x) {
  return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0;
}

/// One truth value a lane.
using M = __mmask16;
/// a < b; false if either is NaN.
inline M less(F a, F b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
inline M both(M a, M b) {
  return static_cast<M>(a & b);
}
inline bool any(M m) {
  return m != 0;
}
/// a where m holds, else b.
inline F select(M m, F a, F b) {
  return _mm512_mask_mov_ps(b, m, a);
}
inline F abs(F a) {
  return _mm512_abs_ps(a);
}

#else

inline constexpr SimdLevel kLevel = SimdLevel::Avx2;
inline constexpr int64_t kLanes = 8;
using F = __m256;

inline __m256i mask(First lanes) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(lanes.n)), index);
}

inline F zero() {
  return _mm256_setzero_ps();
}
inline F all(float x) {
  return _mm256_set1_ps(x);
}
inline F load(const float* p, All = {}) {
  return _mm256_loadu_ps(p);
}
inline F load(const float* p, First lanes) {
  return _mm256_maskload_ps(p, mask(lanes));
}
inline F widen(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline F load(const Bf16* p, All = {}) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F load(const Bf16* p, First lanes) {
  alignas(16) uint16_t bits[8] = {};
  for (int64_t i = 0; i < lanes.n; ++i) bits[i] = p[i].bits;
  return widen(_mm_load_si128(reinterpret_cast<const __m128i*>(bits)));
}
inline void store(float* p, F x, All = {}) {
  _mm256_storeu_ps(p, x);
}
inline void store(float* p, F x, First lanes) {
  _mm256_maskstore_ps(p, mask(lanes), x);
}
/// To nearest even by integer arithmetic, as base/half.h.
inline __m128i narrow(F x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i biased = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i rounded = _mm256_blendv_epi8(_mm256_srli_epi32(biased, 16), quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}
inline void store(Bf16* p, F x, All = {}) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x));
}
inline void store(Bf16* p, F x, First lanes) {
  alignas(16) uint16_t bits[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(bits), narrow(x));
  for (int64_t i = 0; i < lanes.n; ++i) p[i].bits = bits[i];
}

inline F add(F a, F b) {
  return _mm256_add_ps(a, b);
}
inline F sub(F a, F b) {
  return _mm256_sub_ps(a, b);
}
inline F mul(F a, F b) {
  return _mm256_mul_ps(a, b);
}
inline F div(F a, F b) {
  return _mm256_div_ps(a, b);
}
inline F sqrt(F a) {
  return _mm256_sqrt_ps(a);
}
/// a * b + c, rounded once.
inline F fma(F a, F b, F c) {
  return _mm256_fmadd_ps(a, b, c);
}
/// c - a * b, rounded once.
inline F fnma(F a, F b, F c) {
  return _mm256_fnmadd_ps(a, b, c);
}
/// A NaN in b stays, one in a does not.
inline F max(F a, F b) {
  return _mm256_max_ps(a, b);
}
inline F min(F a, F b) {
  return _mm256_min_ps(a, b);
}
inline float sum(F a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float greatest(F a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
/// a in the first n lanes, b in the others; any n.
inline F first_of(int64_t n, F a, F b) {
  const int64_t lanes = n < 0 ? 0 : n > kLanes ? kLanes : n;
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask(First{lanes})));
}
inline F round_even(F x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/// x * 2^n for integer n in [-216, 188]: two steps, since 2^n itself may be no normal number.
inline F scale_by_power(F x, F n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i power0 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i power1 = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(power0)), _mm256_castsi256_ps(power1));
}
inline bool any_nan(F x) {
  return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0;
}

/// One truth value a lane.
using M = __m256;
/// a < b; false if either is NaN.
inline M less(F a, F b) {
  return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
inline M both(M a, M b) {
  return _mm256_and_ps(a, b);
}
inline bool any(M m) {
  return _mm256_movemask_ps(m) != 0;
}
/// a where m holds, else b.
inline F select(M m, F a, F b) {
  return _mm256_blendv_ps(b, a, m);
}
inline F abs(F a) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

#endif

/// Calls body(i, All) for each whole vector of [0, n), then body(i, First) for what is left.
template <class Body>
inline void for_vectors(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, All{});
  if (i < n) body(i, First{n - i});
}

/// e^x, at most 2 ulp off (tests/kernels/math_test.cpp measures it); 0 from -104 down, infinity from 88.73 up, NaN
/// stays.
///
/// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2) / 2; e^r = 1 + r + r^2 q(r), q of degree 4 by weighted minimax
/// fit: relative error 4.4e-9. ln 2 is split so that n * kLn2High is exact (Cody & Waite).
inline F exp(F x) {
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const F bounded = min(all(130.0f), max(all(-150.0f), x));
  const F n = round_even(mul(bounded, all(kLog2E)));
  const F r = fnma(n, all(kLn2Low), fnma(n, all(kLn2High), bounded));
  F q = all(1.3814467e-3f);
  q = fma(q, r, all(8.3687808e-3f));
  q = fma(q, r, all(4.1668393e-2f));
  q = fma(q, r, all(1.6666520e-1f));
  q = fma(q, r, all(4.9999994e-1f));
  const F e = add(fma(mul(r, r), q, r), all(1.0f));
  return scale_by_power(e, n);
}

/// 1 / (1 + e^-x).
inline F sigmoid(F x) {
  const F one = all(1.0f);
  return div(one, add(one, exp(sub(zero(), x))));
}

}  // namespace SLMI_LEVEL_NAMESPACE

using namespace SLMI_LEVEL_NAMESPACE;  // NOLINT: one level a translation unit

}  // namespace slmi::kernels::cpu::detail
