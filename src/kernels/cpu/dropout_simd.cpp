// Dropout by counter in vectors: a Philox block a lane, the bits of the reference.
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

namespace {

constexpr int kRounds = 10;
constexpr uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
/// Channels that one vector of Philox blocks serves.
constexpr int64_t kChunk = kLanes * 8;

#if defined(__AVX512F__)

using U = __m512i;

inline U all_u32(uint32_t x) {
  return _mm512_set1_epi32(static_cast<int>(x));
}
inline U bit_xor(U a, U b, U c) {
  return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}
struct Product {
  U high, low;
};
inline Product multiply(U a, U factor) {
  const U even = _mm512_mul_epu32(a, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
  return {_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xAAAA, odd),
          _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_slli_epi64(odd, 32))};
}
/// Block numbers in the order in which write_words leaves their 128-bit results: lane 4q + r holds block 4r + q.
inline U block_numbers(uint32_t first) {
  const U order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_add_epi32(order, all_u32(first));
}
/// Words 0..3 of each block side by side: four 4x4 transpositions at once.
inline void write_words(U w0, U w1, U w2, U w3, uint16_t* draws) {
  const U a = _mm512_unpacklo_epi32(w0, w1), b = _mm512_unpackhi_epi32(w0, w1);
  const U c = _mm512_unpacklo_epi32(w2, w3), d = _mm512_unpackhi_epi32(w2, w3);
  _mm512_storeu_si512(draws, _mm512_unpacklo_epi64(a, c));
  _mm512_storeu_si512(draws + 32, _mm512_unpackhi_epi64(a, c));
  _mm512_storeu_si512(draws + 64, _mm512_unpacklo_epi64(b, d));
  _mm512_storeu_si512(draws + 96, _mm512_unpackhi_epi64(b, d));
}
/// x where the draw reaches the threshold, else 0.
inline F keep(F x, const uint16_t* draws, uint32_t threshold) {
  const U values = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(draws)));
  return _mm512_maskz_mov_ps(_mm512_cmpge_epi32_mask(values, all_u32(threshold)), x);
}

#else

using U = __m256i;

inline U all_u32(uint32_t x) {
  return _mm256_set1_epi32(static_cast<int>(x));
}
inline U bit_xor(U a, U b, U c) {
  return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
struct Product {
  U high, low;
};
inline Product multiply(U a, U factor) {
  const U even = _mm256_mul_epu32(a, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
  return {_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA),
          _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA)};
}
/// Block numbers in the order in which write_words leaves their 128-bit results: lane 4q + r holds block 2r + q.
inline U block_numbers(uint32_t first) {
  return _mm256_add_epi32(_mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7), all_u32(first));
}
/// Words 0..3 of each block side by side: two 4x4 transpositions at once.
inline void write_words(U w0, U w1, U w2, U w3, uint16_t* draws) {
  const U a = _mm256_unpacklo_epi32(w0, w1), b = _mm256_unpackhi_epi32(w0, w1);
  const U c = _mm256_unpacklo_epi32(w2, w3), d = _mm256_unpackhi_epi32(w2, w3);
  auto* to = reinterpret_cast<__m256i*>(draws);
  _mm256_storeu_si256(to, _mm256_unpacklo_epi64(a, c));
  _mm256_storeu_si256(to + 1, _mm256_unpackhi_epi64(a, c));
  _mm256_storeu_si256(to + 2, _mm256_unpacklo_epi64(b, d));
  _mm256_storeu_si256(to + 3, _mm256_unpackhi_epi64(b, d));
}
/// x where the draw reaches the threshold, else 0.
inline F keep(F x, const uint16_t* draws, uint32_t threshold) {
  const U values = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(draws)));
  const U dropped = _mm256_cmpgt_epi32(all_u32(threshold), values);
  return _mm256_andnot_ps(_mm256_castsi256_ps(dropped), x);
}

#endif

struct Counter {
  uint32_t position, key_low, key_high;
};

/// 16-bit draws of channels [8 * first_block, 8 * first_block + kChunk).
inline void draw(uint32_t first_block, const Counter& counter, const DropoutNumbers& numbers, uint16_t* draws) {
  U c0 = block_numbers(first_block), c1 = all_u32(counter.position);
  U c2 = all_u32(counter.key_low), c3 = all_u32(counter.key_high);
  uint32_t k0 = numbers.key0, k1 = numbers.key1;
  for (int round = 0; round < kRounds; ++round) {
    const Product p0 = multiply(c0, all_u32(kMul0)), p1 = multiply(c2, all_u32(kMul1));
    c0 = bit_xor(p1.high, c1, all_u32(k0));
    c1 = p1.low;
    c2 = bit_xor(p0.high, c3, all_u32(k1));
    c3 = p0.low;
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  write_words(c0, c1, c2, c3, draws);
}

}  // namespace

template <>
template <class T>
void Dropout<kLevel>::apply(const T* x, int64_t x_stride, const DropoutNumbers& numbers, const uint64_t* row_keys,
                            const int32_t* positions, int64_t width, T* out, int64_t out_stride, int64_t begin,
                            int64_t end) {
  const F scale = all(numbers.scale);
  alignas(64) uint16_t draws[kChunk];
  for (int64_t t = begin; t < end; ++t) {
    const Counter counter = {static_cast<uint32_t>(positions[t]), static_cast<uint32_t>(row_keys[t]),
                             static_cast<uint32_t>(row_keys[t] >> 32)};
    for (int64_t c0 = 0; c0 < width; c0 += kChunk) {
      draw(static_cast<uint32_t>(c0 / 8), counter, numbers, draws);
      const T* from = x + t * x_stride + c0;
      T* to = out + t * out_stride + c0;
      for_vectors(width - c0 < kChunk ? width - c0 : kChunk, [&](int64_t i, auto lanes) {
        store(to + i, keep(mul(load(from + i, lanes), scale), draws + i, numbers.threshold), lanes);
      });
    }
  }
}

template void Dropout<kLevel>::apply<float>(const float*, int64_t, const DropoutNumbers&, const uint64_t*,
                                            const int32_t*, int64_t, float*, int64_t, int64_t, int64_t);
template void Dropout<kLevel>::apply<Bf16>(const Bf16*, int64_t, const DropoutNumbers&, const uint64_t*, const int32_t*,
                                           int64_t, Bf16*, int64_t, int64_t, int64_t);

}  // namespace slmi::kernels::cpu::detail
