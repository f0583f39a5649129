// The rounding of block_round.h in vectors: of eight lanes at both levels, four to a block.
#include "vec.h"
// vec.h first: it names the level
#include "levels.h"

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

constexpr int kVectors = 4;
static_assert(kSmallBlock == 8 * kVectors);

struct BlockVectors {
  __m256 x[kVectors];
};

inline BlockVectors load_block(const float* x) {
  return {{_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)}};
}

inline float greatest_of(const BlockVectors& b) {
  const __m256 m = _mm256_max_ps(_mm256_max_ps(b.x[0], b.x[1]), _mm256_max_ps(b.x[2], b.x[3]));
  __m128 a = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  a = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

inline float least_of(const BlockVectors& b) {
  const __m256 m = _mm256_min_ps(_mm256_min_ps(b.x[0], b.x[1]), _mm256_min_ps(b.x[2], b.x[3]));
  __m128 a = _mm_min_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  a = _mm_min_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_min_ss(a, _mm_movehdup_ps(a)));
}

/// Index of the first element that equals a value which is there.
inline int first_equal(const BlockVectors& b, float value) {
  const __m256 wanted = _mm256_set1_ps(value);
  unsigned found = 0;
  for (int k = 0; k < kVectors; ++k) {
    const int equal = _mm256_movemask_ps(_mm256_cmp_ps(b.x[k], wanted, _CMP_EQ_OQ));
    found |= static_cast<unsigned>(equal) << (8 * k);
  }
  return __builtin_ctz(found);
}

inline float inverse_of(float scale) {
  return scale != 0.0f ? 1.0f / scale : 0.0f;
}

/// codes = b * inverse + offset, cut to integers and to 0..max_code. What is no integer of 32 bits becomes the lowest
/// one, and so 0: as the conversion of the scalar code.
inline void store_codes(const BlockVectors& b, float inverse, float offset, int max_code, uint8_t* codes) {
  const __m256 factor = _mm256_set1_ps(inverse), added = _mm256_set1_ps(offset);
  __m256i q[kVectors];
  for (int k = 0; k < kVectors; ++k) q[k] = _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(b.x[k], factor), added));
  // Both steps saturate, below to 0, and work in halves of 128 bits: groups of four codes then stand 0 2 4 6 1 3 5 7.
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i sorted = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  const __m256i bounded = _mm256_min_epu8(sorted, _mm256_set1_epi8(static_cast<char>(max_code)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), bounded);
}

}  // namespace SLMI_LEVEL_NAMESPACE

template <>
void BlockRound<kLevel>::symmetric(const float* x, int64_t count, int levels, float* scale, uint8_t* codes) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const float half = static_cast<float>(levels) + 0.5f;
  for (int64_t j = 0; j < count; ++j, x += kSmallBlock, codes += kSmallBlock) {
    const BlockVectors b = load_block(x);
    BlockVectors magnitude;
    for (int k = 0; k < kVectors; ++k) magnitude.x[k] = _mm256_andnot_ps(sign, b.x[k]);
    const float most = greatest_of(magnitude);
    const float largest = most != 0.0f ? x[first_equal(magnitude, most)] : 0.0f;
    scale[j] = largest / static_cast<float>(-levels);
    store_codes(b, inverse_of(scale[j]), half, 2 * levels - 1, codes);
  }
}

template <>
void BlockRound<kLevel>::affine(const float* x, int64_t count, int max_code, float* scale, float* base,
                                uint8_t* codes) {
  for (int64_t j = 0; j < count; ++j, x += kSmallBlock, codes += kSmallBlock) {
    BlockVectors b = load_block(x);
    // Which of two zeros a minimum of vectors is depends on its order; the first one's sign is stored.
    const float least = least_of(b), greatest = greatest_of(b);
    const float low = least != 0.0f ? least : x[first_equal(b, 0.0f)];
    const float high = greatest != low ? greatest : low;
    scale[j] = (high - low) / static_cast<float>(max_code);
    base[j] = low;
    const __m256 lows = _mm256_set1_ps(low);
    for (int k = 0; k < kVectors; ++k) b.x[k] = _mm256_sub_ps(b.x[k], lows);
    store_codes(b, inverse_of(scale[j]), 0.5f, max_code, codes);
  }
}

}  // namespace slmi::kernels::cpu::detail
