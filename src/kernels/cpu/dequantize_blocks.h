// Unpacking of every block format with AVX2 instructions, over the `Lanes` that turn codes into values; private.
//
// Included by one source file a SIMD level, each compiled for that level. Everything here has internal linkage, or the
// linker might keep the AVX-512 copy of a function for the AVX2 level.
//
// Lanes gives, for T = float and uint16_t (bf16 bits), 16 values at a time from 16 codes in a __m128i:
//   mul(dst, q_i8, d)         d * q
//   mul_add(dst, q_u8, d, m)  d * q + m, mul_sub(dst, q_u8, d, m)  d * q - m    (two roundings, no fma)
//   f32 / f16 / bf16(src, dst)  16 values that are stored as such
#pragma once

#include <immintrin.h>

#include <cstring>

#include "dequantize_levels.h"

namespace slmi::kernels::cpu::detail {

namespace {

inline float load_f16(uint16_t bits) {
  return _cvtsh_ss(bits);
}

inline __m128i load16(const void* src) {
  return _mm_loadu_si128(static_cast<const __m128i*>(src));
}

/// (q >> shift) & mask in every byte; the shift crosses bytes of a 16-bit lane, the mask removes what came over.
inline __m128i bits_of(__m128i q, int shift, char mask) {
  return _mm_and_si128(_mm_srli_epi16(q, shift), _mm_set1_epi8(mask));
}

/// Bytes from f32 products: values[i] = factor * codes[i], for 8 unsigned or signed bytes.
inline void scale_u8(__m128i codes, float factor, float* values) {
  _mm256_storeu_ps(values, _mm256_mul_ps(_mm256_set1_ps(factor), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes))));
}
inline void scale_i8(__m128i codes, float factor, float* values) {
  _mm256_storeu_ps(values, _mm256_mul_ps(_mm256_set1_ps(factor), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))));
}

template <class Lanes, class T>
void block(const BlockQ4_0& b, T* dst) {
  const float d = load_f16(b.d);
  const __m128i q = load16(b.qs);
  const __m128i eight = _mm_set1_epi8(8);
  Lanes::mul(dst, _mm_sub_epi8(bits_of(q, 0, 15), eight), d);
  Lanes::mul(dst + 16, _mm_sub_epi8(bits_of(q, 4, 15), eight), d);
}

template <class Lanes, class T>
void block(const BlockQ4_1& b, T* dst) {
  const float d = load_f16(b.d);
  const float m = load_f16(b.m);
  const __m128i q = load16(b.qs);
  Lanes::mul_add(dst, bits_of(q, 0, 15), d, m);
  Lanes::mul_add(dst + 16, bits_of(q, 4, 15), d, m);
}

/// 16 in each byte whose bit of the 16 is set, else 0.
inline __m128i fifth_bits(const uint8_t* bits) {
  uint16_t word = 0;
  std::memcpy(&word, bits, sizeof(word));
  const __m128i which = _mm_set_epi64x(0x0101010101010101ll, 0);  // byte 0 eight times, then byte 1
  const __m128i spread = _mm_shuffle_epi8(_mm_cvtsi32_si128(word), which);
  const __m128i select = _mm_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  const __m128i set = _mm_cmpeq_epi8(_mm_and_si128(spread, select), select);
  return _mm_and_si128(set, _mm_set1_epi8(16));
}

template <class Lanes, class T>
void block(const BlockQ5_0& b, T* dst) {
  const float d = load_f16(b.d);
  const __m128i q = load16(b.qs);
  const __m128i sixteen = _mm_set1_epi8(16);
  Lanes::mul(dst, _mm_sub_epi8(_mm_or_si128(bits_of(q, 0, 15), fifth_bits(b.qh)), sixteen), d);
  Lanes::mul(dst + 16, _mm_sub_epi8(_mm_or_si128(bits_of(q, 4, 15), fifth_bits(b.qh + 2)), sixteen), d);
}

template <class Lanes, class T>
void block(const BlockQ5_1& b, T* dst) {
  const float d = load_f16(b.d);
  const float m = load_f16(b.m);
  const __m128i q = load16(b.qs);
  Lanes::mul_add(dst, _mm_or_si128(bits_of(q, 0, 15), fifth_bits(b.qh)), d, m);
  Lanes::mul_add(dst + 16, _mm_or_si128(bits_of(q, 4, 15), fifth_bits(b.qh + 2)), d, m);
}

template <class Lanes, class T>
void block(const BlockQ8_0& b, T* dst) {
  const float d = load_f16(b.d);
  Lanes::mul(dst, load16(b.qs), d);
  Lanes::mul(dst + 16, load16(b.qs + 16), d);
}

template <class Lanes, class T>
void block(const BlockQ2_K& b, T* dst) {
  float scale[16];
  float min[16];
  const __m128i packed = load16(b.scales);
  const __m128i sc = bits_of(packed, 0, 15);
  const __m128i mn = bits_of(packed, 4, 15);
  const float d = load_f16(b.d);
  const float dmin = load_f16(b.dmin);
  scale_u8(sc, d, scale);
  scale_u8(_mm_srli_si128(sc, 8), d, scale + 8);
  scale_u8(mn, dmin, min);
  scale_u8(_mm_srli_si128(mn, 8), dmin, min + 8);
  for (int sub = 0; sub < 16; ++sub) {
    const __m128i q = load16(b.qs + 32 * (sub / 8) + 16 * (sub % 2));
    Lanes::mul_sub(dst + 16 * sub, bits_of(q, sub % 8 / 2 * 2, 3), scale[sub], min[sub]);
  }
}

template <class Lanes, class T>
void block(const BlockQ3_K& b, T* dst) {
  alignas(16) int8_t sc[16];
  for (int j = 0; j < 16; ++j) sc[j] = static_cast<int8_t>(scale_q3_k(b.scales, j));
  float scale[16];
  const float d = load_f16(b.d);
  scale_i8(load16(sc), d, scale);
  scale_i8(_mm_srli_si128(load16(sc), 8), d, scale + 8);
  for (int sub = 0; sub < 16; ++sub) {
    const __m128i low = bits_of(load16(b.qs + 32 * (sub / 8) + 16 * (sub % 2)), sub % 8 / 2 * 2, 3);
    const __m128i high = bits_of(load16(b.hmask + 16 * (sub % 2)), sub / 2, 1);
    const __m128i q = _mm_or_si128(low, _mm_slli_epi16(high, 2));  // 0..7, four too large
    Lanes::mul(dst + 16 * sub, _mm_sub_epi8(q, _mm_set1_epi8(4)), scale[sub]);
  }
}

/// The eight scales and minima of a Q4_K or Q5_K block, times d and dmin (scale_min_k4, four at a time).
inline void scales_k4(const uint8_t* scales, float d, float dmin, float* scale, float* min) {
  uint32_t w[3];
  std::memcpy(w, scales, sizeof(w));
  const uint32_t sc_low = w[0] & 0x3f3f3f3fu;
  const uint32_t mn_low = w[1] & 0x3f3f3f3fu;
  const uint32_t sc_high = (w[2] & 0x0f0f0f0fu) | ((w[0] >> 2) & 0x30303030u);
  const uint32_t mn_high = ((w[2] >> 4) & 0x0f0f0f0fu) | ((w[1] >> 2) & 0x30303030u);
  const auto both = [](uint32_t low, uint32_t high) {
    return _mm_cvtsi64_si128(static_cast<long long>((static_cast<uint64_t>(high) << 32) | low));
  };
  scale_u8(both(sc_low, sc_high), d, scale);
  scale_u8(both(mn_low, mn_high), dmin, min);
}

template <class Lanes, class T>
void block(const BlockQ4_K& b, T* dst) {
  float scale[8];
  float min[8];
  scales_k4(b.scales, load_f16(b.d), load_f16(b.dmin), scale, min);
  for (int sub = 0; sub < 8; ++sub) {
    const uint8_t* qs = b.qs + 32 * (sub / 2);
    const int shift = sub % 2 * 4;
    Lanes::mul_sub(dst + 32 * sub, bits_of(load16(qs), shift, 15), scale[sub], min[sub]);
    Lanes::mul_sub(dst + 32 * sub + 16, bits_of(load16(qs + 16), shift, 15), scale[sub], min[sub]);
  }
}

template <class Lanes, class T>
void block(const BlockQ5_K& b, T* dst) {
  float scale[8];
  float min[8];
  scales_k4(b.scales, load_f16(b.d), load_f16(b.dmin), scale, min);
  for (int sub = 0; sub < 8; ++sub) {
    for (int half = 0; half < 2; ++half) {
      const __m128i low = bits_of(load16(b.qs + 32 * (sub / 2) + 16 * half), sub % 2 * 4, 15);
      const __m128i high = bits_of(load16(b.qh + 16 * half), sub, 1);
      Lanes::mul_sub(dst + 32 * sub + 16 * half, _mm_or_si128(low, _mm_slli_epi16(high, 4)), scale[sub], min[sub]);
    }
  }
}

template <class Lanes, class T>
void block(const BlockQ6_K& b, T* dst) {
  float scale[16];
  const float d = load_f16(b.d);
  const __m128i sc = load16(b.scales);
  scale_i8(sc, d, scale);
  scale_i8(_mm_srli_si128(sc, 8), d, scale + 8);
  for (int sub = 0; sub < 16; ++sub) {
    const int chunk = sub / 8;
    const int quarter = sub % 8 / 2;  // k of gguf_blocks.h
    const int half = sub % 2;
    const __m128i low = bits_of(load16(b.ql + 64 * chunk + 32 * (quarter % 2) + 16 * half), quarter / 2 * 4, 15);
    const __m128i high = bits_of(load16(b.qh + 32 * chunk + 16 * half), 2 * quarter, 3);
    const __m128i q = _mm_sub_epi8(_mm_or_si128(low, _mm_slli_epi16(high, 4)), _mm_set1_epi8(32));
    Lanes::mul(dst + 16 * sub, q, scale[sub]);
  }
}

template <class Lanes, class Block, int64_t kWeights, class T>
void block_row(const std::byte* src, T* dst, int64_t k) {
  for (int64_t i = 0; i < k; i += kWeights) {
    // Read in place: a copy to the stack would be read wider than it was written, which stalls the store buffer.
    block<Lanes>(*reinterpret_cast<const Block*>(src), dst + i);
    src += sizeof(Block);
  }
}

/// Values stored as such: 16 at a time, the rest by the reference.
template <class Lanes, BlockFormat kFormat, class T>
void plain_row(const std::byte* src, T* dst, int64_t k) {
  const int64_t whole = k / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) {
    if constexpr (kFormat == BlockFormat::F32) Lanes::f32(src + 4 * i, dst + i);
    if constexpr (kFormat == BlockFormat::F16) Lanes::f16(src + 2 * i, dst + i);
    if constexpr (kFormat == BlockFormat::BF16) Lanes::bf16(src + 2 * i, dst + i);
  }
  scalar_row<T>(kFormat)(src + whole * block_bytes(kFormat), dst + whole, k - whole);
}

template <class Lanes, class T>
RowFunction<T> row_function(BlockFormat format) {
  switch (format) {
    case BlockFormat::F32:
      return plain_row<Lanes, BlockFormat::F32, T>;
    case BlockFormat::F16:
      return plain_row<Lanes, BlockFormat::F16, T>;
    case BlockFormat::BF16:
      return plain_row<Lanes, BlockFormat::BF16, T>;
    case BlockFormat::Q4_0:
      return block_row<Lanes, BlockQ4_0, kSmallBlock, T>;
    case BlockFormat::Q4_1:
      return block_row<Lanes, BlockQ4_1, kSmallBlock, T>;
    case BlockFormat::Q5_0:
      return block_row<Lanes, BlockQ5_0, kSmallBlock, T>;
    case BlockFormat::Q5_1:
      return block_row<Lanes, BlockQ5_1, kSmallBlock, T>;
    case BlockFormat::Q8_0:
      return block_row<Lanes, BlockQ8_0, kSmallBlock, T>;
    case BlockFormat::Q2_K:
      return block_row<Lanes, BlockQ2_K, kSuperBlock, T>;
    case BlockFormat::Q3_K:
      return block_row<Lanes, BlockQ3_K, kSuperBlock, T>;
    case BlockFormat::Q4_K:
      return block_row<Lanes, BlockQ4_K, kSuperBlock, T>;
    case BlockFormat::Q5_K:
      return block_row<Lanes, BlockQ5_K, kSuperBlock, T>;
    case BlockFormat::Q6_K:
      return block_row<Lanes, BlockQ6_K, kSuperBlock, T>;
  }
  return nullptr;
}

/// NF4 codes in order: `first` values 0..15 and `second` 16..31 of 16 packed bytes.
struct Nf4Codes {
  __m128i first;
  __m128i second;
};
inline Nf4Codes nf4_codes(const uint8_t* packed) {
  const __m128i q = load16(packed);
  const __m128i even = bits_of(q, 4, 15);
  const __m128i odd = bits_of(q, 0, 15);
  return {_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)};
}

}  // namespace

}  // namespace slmi::kernels::cpu::detail
