// Conversions, scaling, adding and transposing: reference and choice of level.
#include "slmi/kernels/cpu/elementwise.h"

#include <algorithm>
#include <type_traits>

#include "levels.h"
#include "scalar.h"

namespace slmi::kernels::cpu {

namespace detail {

template <>
template <class S, class D>
void Elementwise<SimdLevel::Scalar>::convert(const S* src, int64_t src_stride, D* dst, int64_t dst_stride,
                                             int64_t width, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      if constexpr (std::is_same_v<S, D>) {
        dst[r * dst_stride + c] = src[r * src_stride + c];
      } else {
        dst[r * dst_stride + c] = from_f32<D>(to_f32(src[r * src_stride + c]));
      }
    }
  }
}

template <>
template <class S, class D>
void Elementwise<SimdLevel::Scalar>::scale(const S* src, int64_t src_stride, float scale, D* dst, int64_t dst_stride,
                                           int64_t width, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      dst[r * dst_stride + c] = from_f32<D>(to_f32(src[r * src_stride + c]) * scale);
    }
  }
}

template <>
template <class S>
void Elementwise<SimdLevel::Scalar>::add_scaled(const S* src, int64_t src_stride, float scale, float* dst,
                                                int64_t dst_stride, int64_t width, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t c = 0; c < width; ++c) dst[r * dst_stride + c] += to_f32(src[r * src_stride + c]) * scale;
  }
}

}  // namespace detail

using detail::at_level;
using detail::Elementwise;

template <class S, class D>
void convert_rows(const S* src, int64_t src_stride, D* dst, int64_t dst_stride, int64_t width, int64_t begin,
                  int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    Elementwise<L>::template convert<S, D>(src, src_stride, dst, dst_stride, width, begin, end);
  });
}

template <class S, class D>
void scale_rows(const S* src, int64_t src_stride, float scale, D* dst, int64_t dst_stride, int64_t width, int64_t begin,
                int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    Elementwise<L>::template scale<S, D>(src, src_stride, scale, dst, dst_stride, width, begin, end);
  });
}

template <class S>
void add_scaled_rows(const S* src, int64_t src_stride, float scale, float* dst, int64_t dst_stride, int64_t width,
                     int64_t begin, int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    Elementwise<L>::template add_scaled<S>(src, src_stride, scale, dst, dst_stride, width, begin, end);
  });
}

template <class S, class D>
void transpose_rows(const S* src, int64_t src_stride, float scale, D* dst, int64_t dst_stride, int64_t width,
                    int64_t begin, int64_t end, SimdLevel /*level*/) {
  // Squares of one cache line a side: every line of dst is written whole. The compiler's code is good enough here.
  constexpr int64_t kTile = 16;
  for (int64_t r0 = begin; r0 < end; r0 += kTile) {
    const int64_t r1 = std::min(end, r0 + kTile);
    for (int64_t c0 = 0; c0 < width; c0 += kTile) {
      for (int64_t c = c0; c < std::min(width, c0 + kTile); ++c) {
        for (int64_t r = r0; r < r1; ++r) {
          dst[c * dst_stride + r] = detail::from_f32<D>(detail::to_f32(src[r * src_stride + c]) * scale);
        }
      }
    }
  }
}

#define SLMI_INSTANTIATE(S, D)                                                                                 \
  template void convert_rows<S, D>(const S*, int64_t, D*, int64_t, int64_t, int64_t, int64_t, SimdLevel);      \
  template void scale_rows<S, D>(const S*, int64_t, float, D*, int64_t, int64_t, int64_t, int64_t, SimdLevel); \
  template void transpose_rows<S, D>(const S*, int64_t, float, D*, int64_t, int64_t, int64_t, int64_t, SimdLevel);
SLMI_INSTANTIATE(float, float)
SLMI_INSTANTIATE(float, Bf16)
SLMI_INSTANTIATE(Bf16, float)
SLMI_INSTANTIATE(Bf16, Bf16)
#undef SLMI_INSTANTIATE
template void add_scaled_rows<float>(const float*, int64_t, float, float*, int64_t, int64_t, int64_t, int64_t,
                                     SimdLevel);
template void add_scaled_rows<Bf16>(const Bf16*, int64_t, float, float*, int64_t, int64_t, int64_t, int64_t, SimdLevel);

}  // namespace slmi::kernels::cpu
