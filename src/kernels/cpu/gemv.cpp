// Few rows times a big matrix: reference and choice of level.
#include "slmi/kernels/cpu/gemv.h"

#include "levels.h"
#include "scalar.h"

namespace slmi::kernels::cpu {

namespace detail {

template <>
template <class X, class W, class Y>
void Gemv<SimdLevel::Scalar>::run(const X* x, int64_t x_stride, int64_t num_rows, const W* w, int64_t w_stride,
                                  int64_t k, Y* y, int64_t y_stride, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    for (int64_t m = 0; m < num_rows; ++m) {
      float sum = 0.0f;
      for (int64_t i = 0; i < k; ++i) sum += to_f32(x[m * x_stride + i]) * to_f32(w[n * w_stride + i]);
      y[m * y_stride + n] = from_f32<Y>(sum);
    }
  }
}

}  // namespace detail

template <class X, class W, class Y>
void gemv(const X* x, int64_t x_stride, int64_t num_rows, const W* w, int64_t w_stride, int64_t k, Y* y,
          int64_t y_stride, int64_t begin, int64_t end, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> {
    detail::Gemv<L>::template run<X, W, Y>(x, x_stride, num_rows, w, w_stride, k, y, y_stride, begin, end);
  });
}

#define SLMI_INSTANTIATE(X, W, Y)                                                                                    \
  template void gemv<X, W, Y>(const X*, int64_t, int64_t, const W*, int64_t, int64_t, Y*, int64_t, int64_t, int64_t, \
                              SimdLevel);
SLMI_INSTANTIATE(float, float, float)
SLMI_INSTANTIATE(float, Bf16, float)
SLMI_INSTANTIATE(Bf16, float, float)
SLMI_INSTANTIATE(Bf16, Bf16, float)
SLMI_INSTANTIATE(float, float, Bf16)
SLMI_INSTANTIATE(float, Bf16, Bf16)
SLMI_INSTANTIATE(Bf16, float, Bf16)
SLMI_INSTANTIATE(Bf16, Bf16, Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu
