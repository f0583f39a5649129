// The packed product with AVX512_BF16: tiles of up to 12 rows by one panel, all sums in registers.
//
// A step over a pair of k loads two vectors of the panel and broadcasts one pair of each row: 14 loads for 24 dot
// products, which is within what two load ports and two dot-product ports give.
#include "gemm_bf16.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace slmi::kernels::cpu::detail {
namespace {

constexpr int64_t kTileRows = 12;
/// Bytes of A that are swept once a panel: they should stay in the second-level cache beside the panel.
constexpr int64_t kBlockBytes = 320 << 10;

inline __m512bh pairs_of(const Bf16* p) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
}

inline __m512bh everywhere(const Bf16* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  __m512i all = _mm512_set1_epi32(pair);
#ifdef __clang__
  asm("" : "+v"(all));  // clang 16's optimizer crashes where it sees a broadcast integer turn into bf16 values
#endif
  return reinterpret_cast<__m512bh>(all);
}

template <int kRows>
struct Sums {
  __m512 left[kRows], right[kRows];
};

/// sums += A[., 0 .. 2 * pairs) * panel. Rows are reached from every third one, since addresses with a scaled stride
/// leave registers for the loop.
template <int kRows>
inline void accumulate(Sums<kRows>& sums, const Bf16* a, int64_t stride, const Bf16* panel, int64_t pairs) {
  const Bf16* third[4] = {a, a + 3 * stride, a + 6 * stride, a + 9 * stride};
  for (int64_t p = 0; p < pairs; ++p, panel += 2 * kGemmPanel) {
    const __m512bh left = pairs_of(panel), right = pairs_of(panel + kGemmPanel);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const __m512bh x = everywhere(third[r / 3] + r % 3 * stride + 2 * p);
      sums.left[r] = _mm512_dpbf16_ps(sums.left[r], left, x);
      sums.right[r] = _mm512_dpbf16_ps(sums.right[r], right, x);
    }
  }
}

struct Tile {
  const Bf16 *a, *tail, *panel;
  Bf16* y;
  int64_t y_stride, columns;
};

template <int kRows>
void compute(const GemmRows& rows, const Tile& tile) {
  Sums<kRows> sums;
  for (int r = 0; r < kRows; ++r) sums.left[r] = sums.right[r] = _mm512_setzero_ps();
  accumulate<kRows>(sums, tile.a, rows.a_stride, tile.panel, rows.k / 2);
  if (rows.tail_k > 0)
    accumulate<kRows>(sums, tile.tail, rows.tail_stride, tile.panel + rows.k * kGemmPanel, rows.tail_k / 2);
  const __mmask32 wanted = tile.columns >= kGemmPanel ? ~__mmask32{0} : (__mmask32{1} << tile.columns) - 1;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    _mm512_mask_storeu_epi16(tile.y + r * tile.y_stride, wanted,
                             reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(sums.right[r], sums.left[r])));
}

using Compute = void (*)(const GemmRows&, const Tile&);
constexpr std::array<Compute, kTileRows + 1> kCompute = {nullptr,     compute<1>,  compute<2>, compute<3>, compute<4>,
                                                         compute<5>,  compute<6>,  compute<7>, compute<8>, compute<9>,
                                                         compute<10>, compute<11>, compute<12>};

}  // namespace

void gemm_bf16(const GemmRows& rows, const Bf16* packed, int64_t n, Bf16* y, int64_t y_stride, int64_t begin,
               int64_t end, int64_t panel_begin, int64_t panel_end) {
  const int64_t k = rows.k + rows.tail_k;
  const int64_t most = std::max<int64_t>(1, kBlockBytes / (2 * k) / kTileRows) * kTileRows;
  const int64_t blocks = (end - begin + most - 1) / most;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = begin + (end - begin) * b / blocks, last = begin + (end - begin) * (b + 1) / blocks;
    const int64_t tiles = (last - first + kTileRows - 1) / kTileRows;
    for (int64_t p = panel_begin; p < panel_end; ++p) {
      for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height: a low one wastes dot products
        const int64_t m = first + (last - first) * t / tiles, above = first + (last - first) * (t + 1) / tiles;
        const Tile tile = {rows.a + m * rows.a_stride,
                           rows.tail_k > 0 ? rows.tail + m * rows.tail_stride : nullptr,
                           packed + p * kGemmPanel * k,
                           y + m * y_stride + p * kGemmPanel,
                           y_stride,
                           n - p * kGemmPanel};
        kCompute[static_cast<size_t>(above - m)](rows, tile);
      }
    }
  }
}

}  // namespace slmi::kernels::cpu::detail
