// Conversions, scaling and adding in vectors; no fma, so that the bits are the reference's.
#include <type_traits>

#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

template <>
template <class S, class D>
void Elementwise<kLevel>::convert(const S* src, int64_t src_stride, D* dst, int64_t dst_stride, int64_t width,
                                  int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    if constexpr (std::is_same_v<S, D>) {
      __builtin_memcpy(dst + r * dst_stride, src + r * src_stride, static_cast<size_t>(width) * sizeof(S));
    } else {
      for_vectors(width, [&](int64_t c, auto lanes) {
        store(dst + r * dst_stride + c, load(src + r * src_stride + c, lanes), lanes);
      });
    }
  }
}

template <>
template <class S, class D>
void Elementwise<kLevel>::scale(const S* src, int64_t src_stride, float scale, D* dst, int64_t dst_stride,
                                int64_t width, int64_t begin, int64_t end) {
  const F factor = all(scale);
  for (int64_t r = begin; r < end; ++r) {
    for_vectors(width, [&](int64_t c, auto lanes) {
      store(dst + r * dst_stride + c, mul(load(src + r * src_stride + c, lanes), factor), lanes);
    });
  }
}

template <>
template <class S>
void Elementwise<kLevel>::add_scaled(const S* src, int64_t src_stride, float scale, float* dst, int64_t dst_stride,
                                     int64_t width, int64_t begin, int64_t end) {
  const F factor = all(scale);
  for (int64_t r = begin; r < end; ++r) {
    for_vectors(width, [&](int64_t c, auto lanes) {
      float* at = dst + r * dst_stride + c;
      store(at, add(load(at, lanes), mul(load(src + r * src_stride + c, lanes), factor)), lanes);
    });
  }
}

#define SLMI_INSTANTIATE(S, D)                                                                                 \
  template void Elementwise<kLevel>::convert<S, D>(const S*, int64_t, D*, int64_t, int64_t, int64_t, int64_t); \
  template void Elementwise<kLevel>::scale<S, D>(const S*, int64_t, float, D*, int64_t, int64_t, int64_t, int64_t);
SLMI_INSTANTIATE(float, float)
SLMI_INSTANTIATE(float, Bf16)
SLMI_INSTANTIATE(Bf16, float)
SLMI_INSTANTIATE(Bf16, Bf16)
#undef SLMI_INSTANTIATE
template void Elementwise<kLevel>::add_scaled<float>(const float*, int64_t, float, float*, int64_t, int64_t, int64_t,
                                                     int64_t);
template void Elementwise<kLevel>::add_scaled<Bf16>(const Bf16*, int64_t, float, float*, int64_t, int64_t, int64_t,
                                                    int64_t);

}  // namespace slmi::kernels::cpu::detail
