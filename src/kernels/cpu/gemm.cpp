// Packing, the scalar reference of the packed product, and the choice of a kernel.
#include "slmi/kernels/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "gemm_amx.h"
#include "gemm_bf16.h"
#include "scalar.h"

namespace slmi::kernels::cpu {
namespace {

inline int64_t packed_index(int64_t k, int64_t row, int64_t column) {
  return (column / kGemmPanel * k + row / 2 * 2) * kGemmPanel + column % kGemmPanel * 2 + row % 2;
}

void gemm_scalar(const GemmRows& rows, const Bf16* packed, int64_t n, Bf16* y, int64_t y_stride, int64_t begin,
                 int64_t end, int64_t panel_begin, int64_t panel_end) {
  const int64_t k = rows.k + rows.tail_k, last = std::min(n, panel_end * kGemmPanel);
  for (int64_t m = begin; m < end; ++m) {
    for (int64_t column = panel_begin * kGemmPanel; column < last; ++column) {
      float sum = 0.0f;
      for (int64_t i = 0; i < k; ++i) {
        const Bf16 a = i < rows.k ? rows.a[m * rows.a_stride + i] : rows.tail[m * rows.tail_stride + i - rows.k];
        sum += detail::to_f32(a) * detail::to_f32(packed[packed_index(k, i, column)]);
      }
      y[m * y_stride + column] = detail::from_f32<Bf16>(sum);
    }
  }
}

}  // namespace

void gemm_pack(const Bf16* b, int64_t k_stride, int64_t n_stride, const GemmBlock& block, int64_t k, Bf16* packed) {
  // Panel by panel and pair by pair of rows, so that writes stay within 128 bytes.
  for (int64_t first = block.n_begin; first < block.n_end;) {
    const int64_t next = std::min(block.n_end, (first / kGemmPanel + 1) * kGemmPanel), count = next - first;
    for (int64_t row = block.k_begin; row < block.k_end;) {
      Bf16* out = packed + packed_index(k, row, first);
      const Bf16* in = b + (row - block.k_begin) * k_stride + (first - block.n_begin) * n_stride;
      const bool whole = row % 2 == 0 && row + 1 < block.k_end;
      if (!whole) {
        for (int64_t c = 0; c < count; ++c) out[2 * c] = in[c * n_stride];
      } else if (k_stride == 1) {
        for (int64_t c = 0; c < count; ++c) std::memcpy(out + 2 * c, in + c * n_stride, 2 * sizeof(Bf16));
      } else {
        for (int64_t c = 0; c < count; ++c) {
          out[2 * c] = in[c * n_stride];
          out[2 * c + 1] = in[c * n_stride + k_stride];
        }
      }
      row += whole ? 2 : 1;
    }
    first = next;
  }
}

void gemm(const GemmRows& rows, const Bf16* packed, int64_t n, Bf16* y, int64_t y_stride, int64_t begin, int64_t end,
          int64_t panel_begin, int64_t panel_end, const Simd& use) {
  if (use.amx) return detail::gemm_amx(rows, packed, n, y, y_stride, begin, end, panel_begin, panel_end);
  if (use.bf16) return detail::gemm_bf16(rows, packed, n, y, y_stride, begin, end, panel_begin, panel_end);
  gemm_scalar(rows, packed, n, y, y_stride, begin, end, panel_begin, panel_end);
}

}  // namespace slmi::kernels::cpu
