// Dequantization at SimdLevel::Avx512; compiled with -mavx512f,bw,vl,dq and run only where simd.h found them.
#include "dequantize_blocks.h"

namespace slmi::kernels::cpu::detail {

namespace {

/// bf16 bits in the low halves, rounded to nearest even by integer arithmetic: AVX512_BF16's own conversion would flush
/// subnormals. NaN becomes a quiet NaN.
inline __m512i bf16_words(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40));
}

inline void store(float* dst, __m512 values) {
  _mm512_storeu_ps(dst, values);
}
inline void store(uint16_t* dst, __m512 values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm512_cvtepi32_epi16(bf16_words(values)));
}

struct Lanes {
  static __m512 from_i8(__m128i q) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)); }

  template <class T>
  static void mul(T* dst, __m128i q, float d) {
    store(dst, _mm512_mul_ps(_mm512_set1_ps(d), from_i8(q)));
  }
  template <class T>
  static void mul_add(T* dst, __m128i q, float d, float m) {
    store(dst, _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(d), from_i8(q)), _mm512_set1_ps(m)));
  }
  template <class T>
  static void mul_sub(T* dst, __m128i q, float d, float m) {
    store(dst, _mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(d), from_i8(q)), _mm512_set1_ps(m)));
  }
  template <class T>
  static void f32(const std::byte* src, T* dst) {
    store(dst, _mm512_loadu_ps(src));
  }
  template <class T>
  static void f16(const std::byte* src, T* dst) {
    store(dst, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(src))));
  }
  static void bf16(const std::byte* src, float* dst) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
    _mm512_storeu_si512(dst, _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static void bf16(const std::byte* src, uint16_t* dst) { std::memcpy(dst, src, 32); }
};

void nf4_blocks(const uint8_t* codes, const float* scales, float* dst, int64_t num_blocks) {
  const __m512 table = _mm512_loadu_ps(kNf4Code.data());
  for (int64_t b = 0; b < num_blocks; ++b, codes += 32, dst += 64) {
    const __m512 scaled = _mm512_mul_ps(table, _mm512_set1_ps(scales[b]));
    for (int half = 0; half < 2; ++half) {
      const Nf4Codes q = nf4_codes(codes + 16 * half);
      store(dst + 32 * half, _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(q.first), scaled));
      store(dst + 32 * half + 16, _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(q.second), scaled));
    }
  }
}

/// The sixteen products are rounded once a block, then 32 values are one permutation of words.
void nf4_blocks(const uint8_t* codes, const float* scales, uint16_t* dst, int64_t num_blocks) {
  const __m512 table = _mm512_loadu_ps(kNf4Code.data());
  for (int64_t b = 0; b < num_blocks; ++b, codes += 32, dst += 64) {
    const __m512i words = bf16_words(_mm512_mul_ps(table, _mm512_set1_ps(scales[b])));
    const __m512i scaled = _mm512_castsi256_si512(_mm512_cvtepi32_epi16(words));
    for (int half = 0; half < 2; ++half) {
      const Nf4Codes q = nf4_codes(codes + 16 * half);
      const __m512i index = _mm512_cvtepu8_epi16(_mm256_set_m128i(q.second, q.first));
      _mm512_storeu_si512(dst + 32 * half, _mm512_permutexvar_epi16(index, scaled));
    }
  }
}

}  // namespace

template <class T>
RowFunction<T> avx512_row(BlockFormat format) {
  return row_function<Lanes, T>(format);
}
template RowFunction<float> avx512_row<float>(BlockFormat);
template RowFunction<uint16_t> avx512_row<uint16_t>(BlockFormat);

template <class T>
Nf4Function<T> avx512_nf4() {
  return nf4_blocks;
}
template Nf4Function<float> avx512_nf4<float>();
template Nf4Function<uint16_t> avx512_nf4<uint16_t>();

}  // namespace slmi::kernels::cpu::detail
