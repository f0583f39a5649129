// What the forward and the backward attention share: key blocks, packing, the small matrix product.
#pragma once

#include "attention_tiles.h"
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

inline constexpr float kInfinity = __builtin_inff();
/// A tile of the product is kTileRows x (kTileVectors * kLanes) sums: 24 of 32 registers, or 12 of 16.
inline constexpr int64_t kTileRows = 6;
#if defined(__AVX512F__)
inline constexpr int64_t kTileVectors = 4;
#else
inline constexpr int64_t kTileVectors = 2;
#endif

inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

/// Left operand of a product: element (row r, depth d) at data[r * row_stride + d * depth_stride].
struct Left {
  const float* data;
  int64_t row_stride, depth_stride;
};
enum class Into { Write, Add };

/// c[r][v] (+)= sum_d a(r, d) * b[d][v] for R rows and V vectors. c and b are contiguous f32 rows.
template <int R, int V>
inline void tile(Left a, int64_t depth, const float* b, int64_t b_stride, float* c, int64_t c_stride, Into into) {
  F sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = into == Into::Add ? load(c + r * c_stride + v * kLanes) : zero();
  }
  const float* left = a.data;
  for (int64_t d = 0; d < depth; ++d, left += a.depth_stride, b += b_stride) {
    F right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) right[v] = load(b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F x = all(left[r * a.row_stride]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] = fma(x, right[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(c + r * c_stride + v * kLanes, sums[r][v]);
  }
}

/// The same for any number of vectors.
template <int R>
inline void tile_row(Left a, int64_t depth, const float* b, int64_t b_stride, int64_t vectors, float* c,
                     int64_t c_stride, Into into) {
  int64_t v = 0;
  for (; v + kTileVectors <= vectors; v += kTileVectors) {
    tile<R, kTileVectors>(a, depth, b + v * kLanes, b_stride, c + v * kLanes, c_stride, into);
  }
  const float* rest_b = b + v * kLanes;
  float* rest_c = c + v * kLanes;
  const int64_t rest = vectors - v;
  if (rest == 1) tile<R, 1>(a, depth, rest_b, b_stride, rest_c, c_stride, into);
  if constexpr (kTileVectors > 2) {
    if (rest == 2) tile<R, 2>(a, depth, rest_b, b_stride, rest_c, c_stride, into);
    if (rest == 3) tile<R, 3>(a, depth, rest_b, b_stride, rest_c, c_stride, into);
  }
}

/// Up to kTileRows rows.
inline void product(int64_t rows, Left a, int64_t depth, const float* b, int64_t b_stride, int64_t vectors, float* c,
                    int64_t c_stride, Into into) {
  switch (rows) {
    case 1:
      return tile_row<1>(a, depth, b, b_stride, vectors, c, c_stride, into);
    case 2:
      return tile_row<2>(a, depth, b, b_stride, vectors, c, c_stride, into);
    case 3:
      return tile_row<3>(a, depth, b, b_stride, vectors, c, c_stride, into);
    case 4:
      return tile_row<4>(a, depth, b, b_stride, vectors, c, c_stride, into);
    case 5:
      return tile_row<5>(a, depth, b, b_stride, vectors, c, c_stride, into);
    default:
      return tile_row<6>(a, depth, b, b_stride, vectors, c, c_stride, into);
  }
}

#if defined(__AVX512F__)
/// Lane i of the result: the sum of dots[i]'s lanes.
inline F sums_of(const F dots[16]) {
  F t[8], u[4];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[i] = _mm512_add_ps(_mm512_unpacklo_ps(dots[2 * i], dots[2 * i + 1]),
                         _mm512_unpackhi_ps(dots[2 * i], dots[2 * i + 1]));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[2 * i]), b = _mm512_castps_pd(t[2 * i + 1]);
    u[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  // u[i] holds dots 4i .. 4i + 3 in each quarter: add the quarters.
  const F v = _mm512_add_ps(_mm512_shuffle_f32x4(u[0], u[1], 0x88), _mm512_shuffle_f32x4(u[0], u[1], 0xDD));
  const F w = _mm512_add_ps(_mm512_shuffle_f32x4(u[2], u[3], 0x88), _mm512_shuffle_f32x4(u[2], u[3], 0xDD));
  return _mm512_add_ps(_mm512_shuffle_f32x4(v, w, 0x88), _mm512_shuffle_f32x4(v, w, 0xDD));
}

/// rows[i] lane j <-> rows[j] lane i.
inline void transpose(F rows[16]) {
  F t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
    rows[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    rows[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    rows[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    rows[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  // rows[4i + k] holds, in its quarter q, column 4q + k of rows 4i .. 4i + 3: now transpose the quarters.
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const F a = _mm512_shuffle_f32x4(rows[k], rows[4 + k], 0x44), b = _mm512_shuffle_f32x4(rows[k], rows[4 + k], 0xEE);
    const F c = _mm512_shuffle_f32x4(rows[8 + k], rows[12 + k], 0x44);
    const F d = _mm512_shuffle_f32x4(rows[8 + k], rows[12 + k], 0xEE);
    t[k] = _mm512_shuffle_f32x4(a, c, 0x88);
    t[4 + k] = _mm512_shuffle_f32x4(a, c, 0xDD);
    t[8 + k] = _mm512_shuffle_f32x4(b, d, 0x88);
    t[12 + k] = _mm512_shuffle_f32x4(b, d, 0xDD);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = t[i];
}
#else
/// Lane i of the result: the sum of dots[i]'s lanes.
inline F sums_of(const F dots[8]) {
  F t[4], u[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_add_ps(_mm256_unpacklo_ps(dots[2 * i], dots[2 * i + 1]),
                         _mm256_unpackhi_ps(dots[2 * i], dots[2 * i + 1]));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m256d a = _mm256_castps_pd(t[2 * i]), b = _mm256_castps_pd(t[2 * i + 1]);
    u[i] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
  }
  return _mm256_add_ps(_mm256_permute2f128_ps(u[0], u[1], 0x20), _mm256_permute2f128_ps(u[0], u[1], 0x31));
}

/// rows[i] lane j <-> rows[j] lane i.
inline void transpose(F rows[8]) {
  F t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    rows[k] = _mm256_permute2f128_ps(u[k], u[4 + k], 0x20);
    rows[4 + k] = _mm256_permute2f128_ps(u[k], u[4 + k], 0x31);
  }
}
#endif

/// to[d][j] = from[j][d] in f32 for `count` <= kKeyBlock rows of head_dim values; columns up to the next whole vector
/// get 0.
template <class KV>
inline void pack_transposed(const KV* from, int64_t stride, int64_t count, int64_t head_dim, float* to) {
  for (int64_t j = 0; j < count; j += kLanes) {
    for_vectors(head_dim, [&](int64_t d, auto lanes) {
      F rows[kLanes];
      for (int64_t r = 0; r < kLanes; ++r) rows[r] = j + r < count ? load(from + (j + r) * stride + d, lanes) : zero();
      transpose(rows);
      const int64_t depth = smaller(kLanes, head_dim - d);
      for (int64_t r = 0; r < depth; ++r) store(to + (d + r) * kKeyBlock + j, rows[r]);
    });
  }
}

/// to[r] = from[r] * scale in f32, rows of padded_head_dim with zeros behind.
template <class T>
inline void pack_row(const T* from, F scale, int64_t head_dim, float* to) {
  for_vectors(head_dim, [&](int64_t d, auto lanes) { store(to + d, mul(load(from + d, lanes), scale)); });
  // for_vectors has written whole vectors; AVX2 has half of the padding left at E % 16 == 8.
  if (round_up(head_dim, kLanes) < padded_head_dim(head_dim)) store(to + round_up(head_dim, kLanes), zero());
}
template <class KV>
inline void pack_rows(const KV* from, int64_t stride, int64_t count, int64_t head_dim, float* to) {
  const F one = all(1.0f);
  for (int64_t j = 0; j < count; ++j) pack_row(from + j * stride, one, head_dim, to + j * padded_head_dim(head_dim));
}

/// A run of keys that an item's queries see.
template <class KV>
struct KeyBlock {
  const KV* k;
  const KV* v;
  int64_t stride;
  int64_t row;    // of the first key
  int64_t count;  // of keys, at most kKeyBlock
  int64_t first;  // number of the first key among the segment's own; negative for the prefix

  /// Keys that query i of the segment sees; may be <= 0.
  int64_t visible(const AttentionSegment& s, int64_t query) const {
    if (first < 0) return count;
    return smaller(count, s.own_len - s.q_len + query + 1 - first);
  }
};

/// Calls body(KeyBlock) for `count` keys from `begin` on of one view; `first`: see KeyBlock.
template <class KV, class Body>
inline void for_key_blocks(const KvView<KV>& view, int64_t begin, int64_t count, int64_t head_offset, bool prefix,
                           const Body& body) {
  for (int64_t j = 0; j < count; j += kKeyBlock) {
    const int64_t row = begin + j;
    const int64_t at = row * view.row_stride + head_offset;
    body(KeyBlock<KV>{view.k + at, view.v + at, view.row_stride, row, smaller(kKeyBlock, count - j), prefix ? -1 : j});
  }
}
template <class KV, class Body>
inline void for_prefix_blocks(const AttentionSegment& s, const KvView<KV>& view, int64_t head_offset,
                              const Body& body) {
  for_key_blocks(view, s.prefix_begin, s.prefix_len, head_offset, true, body);
}
/// The own keys that query `last` of the segment sees.
template <class KV, class Body>
inline void for_own_blocks(const AttentionSegment& s, int64_t last, const KvView<KV>& view, int64_t head_offset,
                           const Body& body) {
  for_key_blocks(view, s.own_begin, s.own_len - s.q_len + last + 1, head_offset, false, body);
}

inline float* aligned(std::byte* scratch) {
  const auto address = reinterpret_cast<uintptr_t>(scratch);
  return reinterpret_cast<float*>((address + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment);
}

}  // namespace SLMI_LEVEL_NAMESPACE
}  // namespace slmi::kernels::cpu::detail
