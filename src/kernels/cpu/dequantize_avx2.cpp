// Dequantization at SimdLevel::Avx2; compiled with -mavx2 -mf16c and run only where simd.h found them.
#include "dequantize_blocks.h"

namespace slmi::kernels::cpu::detail {

namespace {

/// bf16 bits in the low halves, rounded to nearest even by integer arithmetic. NaN becomes a quiet NaN.
inline __m256i bf16_words(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
  const __m256 nan = _mm256_cmp_ps(values, values, _CMP_UNORD_Q);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
}

/// 16 bf16 of two times 8 values, in order.
inline __m256i bf16_pack(__m256 first, __m256 second) {
  const __m256i packed = _mm256_packus_epi32(bf16_words(first), bf16_words(second));
  return _mm256_permute4x64_epi64(packed, 0xd8);  // the pack works within 128-bit halves
}

inline void store(float* dst, __m256 first, __m256 second) {
  _mm256_storeu_ps(dst, first);
  _mm256_storeu_ps(dst + 8, second);
}
inline void store(uint16_t* dst, __m256 first, __m256 second) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), bf16_pack(first, second));
}

struct Lanes {
  static __m256 first(__m128i q) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)); }
  static __m256 second(__m128i q) { return first(_mm_srli_si128(q, 8)); }

  template <class T>
  static void mul(T* dst, __m128i q, float d) {
    const __m256 scale = _mm256_set1_ps(d);
    store(dst, _mm256_mul_ps(scale, first(q)), _mm256_mul_ps(scale, second(q)));
  }
  template <class T>
  static void mul_add(T* dst, __m128i q, float d, float m) {
    const __m256 scale = _mm256_set1_ps(d);
    const __m256 min = _mm256_set1_ps(m);
    store(dst, _mm256_add_ps(_mm256_mul_ps(scale, first(q)), min), _mm256_add_ps(_mm256_mul_ps(scale, second(q)), min));
  }
  template <class T>
  static void mul_sub(T* dst, __m128i q, float d, float m) {
    const __m256 scale = _mm256_set1_ps(d);
    const __m256 min = _mm256_set1_ps(m);
    store(dst, _mm256_sub_ps(_mm256_mul_ps(scale, first(q)), min), _mm256_sub_ps(_mm256_mul_ps(scale, second(q)), min));
  }
  template <class T>
  static void f32(const std::byte* src, T* dst) {
    const float* values = reinterpret_cast<const float*>(src);
    store(dst, _mm256_loadu_ps(values), _mm256_loadu_ps(values + 8));
  }
  template <class T>
  static void f16(const std::byte* src, T* dst) {
    store(dst, _mm256_cvtph_ps(load16(src)), _mm256_cvtph_ps(load16(src + 16)));
  }
  static void bf16(const std::byte* src, float* dst) {
    const __m256i first = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(src)), 16);
    const __m256i second = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(src + 16)), 16);
    store(dst, _mm256_castsi256_ps(first), _mm256_castsi256_ps(second));
  }
  static void bf16(const std::byte* src, uint16_t* dst) { std::memcpy(dst, src, 32); }
};

/// The sixteen products of a block, in two registers.
struct Nf4Table {
  __m256 low;
  __m256 high;
};
inline Nf4Table nf4_table(float scale) {
  const __m256 factor = _mm256_set1_ps(scale);
  return {_mm256_mul_ps(_mm256_loadu_ps(kNf4Code.data()), factor),
          _mm256_mul_ps(_mm256_loadu_ps(kNf4Code.data() + 8), factor)};
}

/// Table entries of 8 codes: both halves are looked up by the low three bits, the fourth chooses.
inline __m256 nf4_lookup(const Nf4Table& table, __m128i codes) {
  const __m256i index = _mm256_cvtepu8_epi32(codes);
  const __m256 low = _mm256_permutevar8x32_ps(table.low, index);
  const __m256 high = _mm256_permutevar8x32_ps(table.high, index);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

void nf4_blocks(const uint8_t* codes, const float* scales, float* dst, int64_t num_blocks) {
  for (int64_t b = 0; b < num_blocks; ++b, codes += 32, dst += 64) {
    const Nf4Table table = nf4_table(scales[b]);
    for (int half = 0; half < 2; ++half) {
      const Nf4Codes q = nf4_codes(codes + 16 * half);
      float* out = dst + 32 * half;
      store(out, nf4_lookup(table, q.first), nf4_lookup(table, _mm_srli_si128(q.first, 8)));
      store(out + 16, nf4_lookup(table, q.second), nf4_lookup(table, _mm_srli_si128(q.second, 8)));
    }
  }
}

/// The sixteen products are rounded once a block; their low and high bytes are two tables of byte shuffles.
void nf4_blocks(const uint8_t* codes, const float* scales, uint16_t* dst, int64_t num_blocks) {
  for (int64_t b = 0; b < num_blocks; ++b, codes += 32, dst += 64) {
    const Nf4Table table = nf4_table(scales[b]);
    const __m256i words = bf16_pack(table.low, table.high);
    const __m256i low_bytes = _mm256_and_si256(words, _mm256_set1_epi16(0xff));
    const __m256i high_bytes = _mm256_srli_epi16(words, 8);
    const __m128i low = _mm_packus_epi16(_mm256_castsi256_si128(low_bytes), _mm256_extracti128_si256(low_bytes, 1));
    const __m128i high = _mm_packus_epi16(_mm256_castsi256_si128(high_bytes), _mm256_extracti128_si256(high_bytes, 1));
    const auto put = [&](__m128i q, uint16_t* out) {
      const __m128i l = _mm_shuffle_epi8(low, q);
      const __m128i h = _mm_shuffle_epi8(high, q);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi8(l, h));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 8), _mm_unpackhi_epi8(l, h));
    };
    for (int half = 0; half < 2; ++half) {
      const Nf4Codes q = nf4_codes(codes + 16 * half);
      put(q.first, dst + 32 * half);
      put(q.second, dst + 32 * half + 16);
    }
  }
}

}  // namespace

template <class T>
RowFunction<T> avx2_row(BlockFormat format) {
  return row_function<Lanes, T>(format);
}
template RowFunction<float> avx2_row<float>(BlockFormat);
template RowFunction<uint16_t> avx2_row<uint16_t>(BlockFormat);

template <class T>
Nf4Function<T> avx2_nf4() {
  return nf4_blocks;
}
template Nf4Function<float> avx2_nf4<float>();
template Nf4Function<uint16_t> avx2_nf4<uint16_t>();

}  // namespace slmi::kernels::cpu::detail
