// The packed product with AMX_BF16: 32 rows by one panel at a time, all sums in four tiles.
//
// A panel's pairs of rows lie as a tile of B wants them, and rows of A as they are: nothing is packed anew. A step over
// 32 values of k loads four tiles for four products, half of the time that the products take. Ends of k that fill no
// step are copied beside zeros, of A once a block of rows, of B once a panel.
#include "gemm_amx.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace slmi::kernels::cpu::detail {
namespace {

constexpr int64_t kTileRows = 16;         // of a tile of A, or of sums
constexpr int64_t kRows = 2 * kTileRows;  // that are computed at once
constexpr int64_t kStep = 32;             // values of k in a tile of A; 16 pairs are a tile of B
constexpr int64_t kPanelStep = kStep * kGemmPanel;
constexpr int64_t kPanelBytes = 2 * kGemmPanel * static_cast<int64_t>(sizeof(Bf16));  // of one pair of rows
/// Bytes of A that are swept once a panel (they should stay in the second-level cache beside it), and most rows.
constexpr int64_t kBlockBytes = 320 << 10, kBlockRows = 256;

/// What _tile_loadconfig reads (Intel SDM, LDTILECFG).
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// Tiles 0 to 3: sums of the upper rows (left and right half of the panel), then of the lower ones; 4 and 5: the upper
// and lower rows of A; 6 and 7: the left and right half of the panel.
void configure(int64_t rows) {
  const auto upper = static_cast<uint8_t>(std::min(rows, kTileRows));
  const auto lower = static_cast<uint8_t>(std::max<int64_t>(rows - kTileRows, 1));
  TileConfig config;
  std::fill_n(config.row_bytes, 8, uint16_t{64});
  const uint8_t heights[8] = {upper, upper, lower, lower, upper, lower, 16, 16};
  std::copy_n(heights, 8, config.rows);
  _tile_loadconfig(&config);
}

/// Sums += A * panel over whole steps; kLower: there are more than 16 rows.
template <bool kLower>
inline void accumulate(const Bf16* a, int64_t a_stride, const Bf16* panel, int64_t steps) {
  const int64_t row_bytes = a_stride * static_cast<int64_t>(sizeof(Bf16));
  for (int64_t s = 0; s < steps; ++s, a += kStep, panel += kPanelStep) {
    _tile_loadd(6, panel, kPanelBytes);
    _tile_loadd(7, panel + kGemmPanel, kPanelBytes);
    _tile_loadd(4, a, row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kLower) {
      _tile_loadd(5, a + kTileRows * a_stride, row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
}

/// Rows of y from the tiles of sums.
template <bool kLower>
inline void write(Bf16* y, int64_t y_stride, int64_t rows, int64_t columns) {
  alignas(64) float sums[kRows][kGemmPanel];
  _tile_stored(0, sums, sizeof sums[0]);
  _tile_stored(1, sums[0] + 16, sizeof sums[0]);
  if constexpr (kLower) {
    _tile_stored(2, sums[kTileRows], sizeof sums[0]);
    _tile_stored(3, sums[kTileRows] + 16, sizeof sums[0]);
  }
  const __mmask32 wanted = columns >= kGemmPanel ? ~__mmask32{0} : (__mmask32{1} << columns) - 1;
  for (int64_t r = 0; r < rows; ++r) {
    const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_load_ps(sums[r] + 16), _mm512_load_ps(sums[r]));
    _mm512_mask_storeu_epi16(y + r * y_stride, wanted, reinterpret_cast<__m512i>(both));
  }
}

/// One of A's two buffers, and where its part of a panel begins.
struct Part {
  const Bf16* a;
  int64_t stride, k, panel_begin;
  // The end of k that fills no step, beside zeros: of the block's rows, and of the panel.
  alignas(64) Bf16 end_of_rows[kBlockRows * kStep], end_of_panel[kPanelStep];

  Part(const Bf16* rows, int64_t row_stride, int64_t width, int64_t panel_row)
      : a(rows), stride(row_stride), k(width), panel_begin(panel_row * kGemmPanel) {}

  int64_t steps() const { return k / kStep; }
  int64_t rest() const { return k % kStep; }

  void copy_end_of_rows(int64_t first, int64_t last) {
    if (rest() == 0) return;
    std::memset(end_of_rows, 0, static_cast<size_t>((last - first) * kStep) * sizeof(Bf16));
    for (int64_t r = first; r < last; ++r)
      std::memcpy(end_of_rows + (r - first) * kStep, a + r * stride + k - rest(),
                  static_cast<size_t>(rest()) * sizeof(Bf16));
  }

  void copy_end_of_panel(const Bf16* panel) {
    if (rest() == 0) return;
    const int64_t count = rest() * kGemmPanel;
    std::memcpy(end_of_panel, panel + panel_begin + steps() * kPanelStep, static_cast<size_t>(count) * sizeof(Bf16));
    std::memset(end_of_panel + count, 0, static_cast<size_t>(kPanelStep - count) * sizeof(Bf16));
  }

  /// Sums += rows [m, ...) of the block that begins at `first`.
  template <bool kLower>
  void add(int64_t first, int64_t m, const Bf16* panel) const {
    accumulate<kLower>(a + m * stride, stride, panel + panel_begin, steps());
    if (rest() > 0) accumulate<kLower>(end_of_rows + (m - first) * kStep, kStep, end_of_panel, 1);
  }
};

}  // namespace

void gemm_amx(const GemmRows& rows, const Bf16* packed, int64_t n, Bf16* y, int64_t y_stride, int64_t begin,
              int64_t end, int64_t panel_begin, int64_t panel_end) {
  const int64_t k = rows.k + rows.tail_k;
  const int64_t most = std::clamp<int64_t>(kBlockBytes / (2 * k) / kRows * kRows, kRows, kBlockRows);
  Part main(rows.a, rows.a_stride, rows.k, 0), tail(rows.tail, rows.tail_stride, rows.tail_k, rows.k);
  int64_t configured = 0;
  const auto compute = [&]<bool kLower>(int64_t first, int64_t m, int64_t height, int64_t p) {
    const Bf16* panel = packed + p * kGemmPanel * k;
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kLower) {
      _tile_zero(2);
      _tile_zero(3);
    }
    main.add<kLower>(first, m, panel);
    if (tail.k > 0) tail.add<kLower>(first, m, panel);
    write<kLower>(y + m * y_stride + p * kGemmPanel, y_stride, height, n - p * kGemmPanel);
  };
  for (int64_t first = begin; first < end; first += most) {
    const int64_t last = std::min(end, first + most);
    main.copy_end_of_rows(first, last);
    tail.copy_end_of_rows(first, last);
    for (int64_t p = panel_begin; p < panel_end; ++p) {
      main.copy_end_of_panel(packed + p * kGemmPanel * k);
      tail.copy_end_of_panel(packed + p * kGemmPanel * k);
      for (int64_t m = first; m < last; m += kRows) {
        const int64_t height = std::min(kRows, last - m);
        if (height != configured) configure(configured = height);
        if (height > kTileRows)
          compute.operator()<true>(first, m, height, p);
        else
          compute.operator()<false>(first, m, height, p);
      }
    }
  }
  if (configured != 0) _tile_release();
}

}  // namespace slmi::kernels::cpu::detail
