// RMSNorm and the residual stream: reference and choice of level.
#include "slmi/kernels/cpu/rms_norm.h"

#include <cmath>

#include "levels.h"
#include "scalar.h"

namespace slmi::kernels::cpu {

namespace detail {

namespace {

template <class T>
void norm_row(const float* x, const float* weight, float eps, int64_t width, T* out, float* rstd) {
  float sum = 0.0f;
  for (int64_t i = 0; i < width; ++i) sum += x[i] * x[i];
  const float r = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps);
  for (int64_t i = 0; i < width; ++i) out[i] = from_f32<T>(weight[i] * (x[i] * r));
  if (rstd != nullptr) *rstd = r;
}

}  // namespace

template <>
template <class T>
void RmsNorm<SimdLevel::Scalar>::forward(const float* x, const float* weight, float eps, int64_t width, T* out,
                                         int64_t out_stride, float* rstd, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    norm_row(x + t * width, weight, eps, width, out + t * out_stride, rstd == nullptr ? nullptr : rstd + t);
  }
}

template <>
template <class T>
void RmsNorm<SimdLevel::Scalar>::backward(const T* dy, int64_t dy_stride, const float* x, const float* weight,
                                          const float* rstd, int64_t width, float* dx, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* g = dy + t * dy_stride;
    const float* row = x + t * width;
    float projection = 0.0f;
    for (int64_t i = 0; i < width; ++i) projection += to_f32(g[i]) * weight[i] * (row[i] * rstd[t]);
    projection /= static_cast<float>(width);
    for (int64_t i = 0; i < width; ++i) {
      dx[t * width + i] += rstd[t] * (to_f32(g[i]) * weight[i] - row[i] * rstd[t] * projection);
    }
  }
}

template <>
template <class T>
void RmsNorm<SimdLevel::Scalar>::add(const float* hidden_in, const T* y, int64_t y_stride, int64_t width,
                                     float* hidden_out, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      hidden_out[t * width + i] = hidden_in[t * width + i] + to_f32(y[t * y_stride + i]);
    }
  }
}

template <>
template <class T>
void RmsNorm<SimdLevel::Scalar>::add_forward(const float* hidden_in, const T* y, int64_t y_stride, const float* weight,
                                             float eps, int64_t width, float* hidden_out, T* out, int64_t out_stride,
                                             float* rstd, int64_t begin, int64_t end) {
  add<T>(hidden_in, y, y_stride, width, hidden_out, begin, end);
  forward<T>(hidden_out, weight, eps, width, out, out_stride, rstd, begin, end);
}

}  // namespace detail

using detail::at_level;
using detail::RmsNorm;

template <class T>
void rms_norm_forward(const float* x, const float* weight, float eps, int64_t width, T* out, int64_t out_stride,
                      float* rstd, int64_t begin, int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    RmsNorm<L>::template forward<T>(x, weight, eps, width, out, out_stride, rstd, begin, end);
  });
}

template <class T>
void rms_norm_backward(const T* dy, int64_t dy_stride, const float* x, const float* weight, const float* rstd,
                       int64_t width, float* dx, int64_t begin, int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    RmsNorm<L>::template backward<T>(dy, dy_stride, x, weight, rstd, width, dx, begin, end);
  });
}

template <class T>
void add_to_residual(const float* hidden_in, const T* y, int64_t y_stride, int64_t width, float* hidden_out,
                     int64_t begin, int64_t end, SimdLevel level) {
  at_level(level,
           [&]<SimdLevel L> { RmsNorm<L>::template add<T>(hidden_in, y, y_stride, width, hidden_out, begin, end); });
}

template <class T>
void add_rms_norm_forward(const float* hidden_in, const T* y, int64_t y_stride, const float* weight, float eps,
                          int64_t width, float* hidden_out, T* out, int64_t out_stride, float* rstd, int64_t begin,
                          int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    RmsNorm<L>::template add_forward<T>(hidden_in, y, y_stride, weight, eps, width, hidden_out, out, out_stride, rstd,
                                        begin, end);
  });
}

#define SLMI_INSTANTIATE(T)                                                                                            \
  template void rms_norm_forward<T>(const float*, const float*, float, int64_t, T*, int64_t, float*, int64_t, int64_t, \
                                    SimdLevel);                                                                        \
  template void rms_norm_backward<T>(const T*, int64_t, const float*, const float*, const float*, int64_t, float*,     \
                                     int64_t, int64_t, SimdLevel);                                                     \
  template void add_to_residual<T>(const float*, const T*, int64_t, int64_t, float*, int64_t, int64_t, SimdLevel);     \
  template void add_rms_norm_forward<T>(const float*, const T*, int64_t, const float*, float, int64_t, float*, T*,     \
                                        int64_t, float*, int64_t, int64_t, SimdLevel);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu
