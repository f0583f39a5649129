// Dequantization: choice of the SIMD level, and the walk over rows.
#include "slmi/kernels/cpu/dequantize.h"

#include <algorithm>
#include <array>

#include "dequantize_levels.h"
#include "slmi/base/half.h"
#include "slmi/kernels/dynamic_map.h"

namespace slmi::kernels::cpu {

namespace {

template <class T>
detail::RowFunction<T> row_function(BlockFormat format, SimdLevel level) {
  switch (level) {
    case SimdLevel::Avx512:
      return detail::avx512_row<T>(format);
    case SimdLevel::Avx2:
      return detail::avx2_row<T>(format);
    case SimdLevel::Scalar:
      break;
  }
  return detail::scalar_row<T>(format);
}

template <class T>
void rows(BlockFormat format, const std::byte* src, T* dst, int64_t k, int64_t dst_stride, int64_t row_begin,
          int64_t row_end, SimdLevel level) {
  const detail::RowFunction<T> row = row_function<T>(format, level);
  const int64_t stride = k / block_size(format) * block_bytes(format);
  for (int64_t r = row_begin; r < row_end; ++r) row(src + r * stride, dst + (r - row_begin) * dst_stride, k);
}

inline void store(float* dst, float value) {
  *dst = value;
}
inline void store(uint16_t* dst, float value) {
  *dst = f32_to_bf16(value);
}

/// Values [begin, end) of the flattened matrix; the reference of NF4.
template <class T>
void nf4_values(const Nf4View& src, T* dst, int64_t begin, int64_t end) {
  int64_t scaled = -1;
  float scale = 0.0f;
  for (int64_t i = begin; i < end; ++i) {
    if (i / kNf4Block != scaled) {
      scaled = i / kNf4Block;
      scale = nf4_absmax(src, scaled);
    }
    const uint8_t packed = src.codes[i / 2];
    store(dst + (i - begin), kNf4Code[i % 2 == 0 ? packed >> 4 : packed & 15] * scale);
  }
}

/// Scales gathered before the vector loop runs over them: 4,096 values, which with their output stay in the L1 cache.
constexpr int64_t kScalesAtOnce = 64;

template <class T>
void nf4_blocks(const Nf4View& src, T* dst, int64_t block_begin, int64_t block_end, detail::Nf4Function<T> run) {
  std::array<float, kScalesAtOnce> scales;
  for (int64_t b = block_begin; b < block_end; b += kScalesAtOnce) {
    const int64_t count = std::min(kScalesAtOnce, block_end - b);
    for (int64_t i = 0; i < count; ++i) scales[static_cast<size_t>(i)] = nf4_absmax(src, b + i);
    run(src.codes + b * (kNf4Block / 2), scales.data(), dst + (b - block_begin) * kNf4Block, count);
  }
}

template <class T>
void nf4_rows(const Nf4View& src, T* dst, int64_t dst_stride, int64_t row_begin, int64_t row_end, SimdLevel level) {
  detail::Nf4Function<T> run = nullptr;
  if (level == SimdLevel::Avx512) run = detail::avx512_nf4<T>();
  if (level == SimdLevel::Avx2) run = detail::avx2_nf4<T>();
  for (int64_t r = row_begin; r < row_end; ++r) {
    T* out = dst + (r - row_begin) * dst_stride;
    const int64_t begin = r * src.k;
    const int64_t end = begin + src.k;
    // Whole blocks inside the row go to the vector loop, what shares a block with a neighbour row is done one by one.
    const int64_t first = (begin + kNf4Block - 1) / kNf4Block;
    const int64_t last = end / kNf4Block;
    if (run == nullptr || first >= last) {
      nf4_values(src, out, begin, end);
      continue;
    }
    nf4_values(src, out, begin, first * kNf4Block);
    nf4_blocks(src, out + (first * kNf4Block - begin), first, last, run);
    nf4_values(src, out + (last * kNf4Block - begin), last * kNf4Block, end);
  }
}

}  // namespace

void dequantize_rows(BlockFormat format, const std::byte* src, float* dst, int64_t k, int64_t dst_stride,
                     int64_t row_begin, int64_t row_end, SimdLevel level) {
  rows(format, src, dst, k, dst_stride, row_begin, row_end, level);
}

void dequantize_rows(BlockFormat format, const std::byte* src, uint16_t* dst, int64_t k, int64_t dst_stride,
                     int64_t row_begin, int64_t row_end, SimdLevel level) {
  rows(format, src, dst, k, dst_stride, row_begin, row_end, level);
}

void nf4_dequantize_rows(const Nf4View& src, float* dst, int64_t dst_stride, int64_t row_begin, int64_t row_end,
                         SimdLevel level) {
  nf4_rows(src, dst, dst_stride, row_begin, row_end, level);
}

void nf4_dequantize_rows(const Nf4View& src, uint16_t* dst, int64_t dst_stride, int64_t row_begin, int64_t row_end,
                         SimdLevel level) {
  nf4_rows(src, dst, dst_stride, row_begin, row_end, level);
}

float nf4_absmax(const Nf4View& src, int64_t b) {
  if (src.absmax != nullptr) return src.absmax[b];
  return dynamic_map()[src.absmax_codes[b]] * src.absmax2[b / kNf4NestedBlock] + src.offset;
}

}  // namespace slmi::kernels::cpu
