// RMSNorm and the residual stream in vectors.
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

namespace {

/// Four sums side by side hide the latency of an fma.
inline float sum_of_products(const F sums[4]) {
  return sum(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

inline float square_sum(const float* x, int64_t width) {
  F sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
    for (int u = 0; u < 4; ++u) {
      const F a = load(x + i + u * kLanes);
      sums[u] = fma(a, a, sums[u]);
    }
  }
  for_vectors(width - i, [&](int64_t j, auto lanes) {
    const F a = load(x + i + j, lanes);
    sums[0] = fma(a, a, sums[0]);
  });
  return sum_of_products(sums);
}

inline float reciprocal_root(float mean_square, float eps) {
  return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean_square + eps)));
}

template <class T>
inline void scale_row(const float* x, const float* weight, float r, int64_t width, T* out) {
  const F factor = all(r);
  for_vectors(width, [&](int64_t i, auto lanes) {
    store(out + i, mul(load(weight + i, lanes), mul(load(x + i, lanes), factor)), lanes);
  });
}

template <class T>
inline void add_row(const float* hidden_in, const T* y, int64_t width, float* hidden_out) {
  for_vectors(width, [&](int64_t i, auto lanes) {
    store(hidden_out + i, add(load(hidden_in + i, lanes), load(y + i, lanes)), lanes);
  });
}

}  // namespace

template <>
template <class T>
void RmsNorm<kLevel>::forward(const float* x, const float* weight, float eps, int64_t width, T* out, int64_t out_stride,
                              float* rstd, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* row = x + t * width;
    const float r = reciprocal_root(square_sum(row, width) / static_cast<float>(width), eps);
    scale_row(row, weight, r, width, out + t * out_stride);
    if (rstd != nullptr) rstd[t] = r;
  }
}

template <>
template <class T>
void RmsNorm<kLevel>::backward(const T* dy, int64_t dy_stride, const float* x, const float* weight, const float* rstd,
                               int64_t width, float* dx, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* g = dy + t * dy_stride;
    const float* row = x + t * width;
    F sums[4] = {zero(), zero(), zero(), zero()};
    int64_t i = 0;
    for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
      for (int u = 0; u < 4; ++u) {
        const int64_t j = i + u * kLanes;
        sums[u] = fma(mul(load(g + j), load(weight + j)), load(row + j), sums[u]);
      }
    }
    for_vectors(width - i, [&](int64_t j, auto lanes) {
      const F scaled = mul(load(g + i + j, lanes), load(weight + i + j, lanes));
      sums[0] = fma(scaled, load(row + i + j, lanes), sums[0]);
    });
    const float r = rstd[t];
    const F factor = all(r);
    const F projection = all(sum_of_products(sums) * r / static_cast<float>(width) * r);
    for_vectors(width, [&](int64_t j, auto lanes) {
      const F scaled = mul(load(g + j, lanes), load(weight + j, lanes));
      const F along = fnma(load(row + j, lanes), projection, scaled);
      store(dx + t * width + j, fma(factor, along, load(dx + t * width + j, lanes)), lanes);
    });
  }
}

template <>
template <class T>
void RmsNorm<kLevel>::add(const float* hidden_in, const T* y, int64_t y_stride, int64_t width, float* hidden_out,
                          int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    add_row(hidden_in + t * width, y + t * y_stride, width, hidden_out + t * width);
  }
}

template <>
template <class T>
void RmsNorm<kLevel>::add_forward(const float* hidden_in, const T* y, int64_t y_stride, const float* weight, float eps,
                                  int64_t width, float* hidden_out, T* out, int64_t out_stride, float* rstd,
                                  int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {  // row by row: the sum is still in L1 when the norm reads it
    add<T>(hidden_in, y, y_stride, width, hidden_out, t, t + 1);
    forward<T>(hidden_out, weight, eps, width, out, out_stride, rstd, t, t + 1);
  }
}

#define SLMI_INSTANTIATE(T)                                                                                            \
  template void RmsNorm<kLevel>::forward<T>(const float*, const float*, float, int64_t, T*, int64_t, float*, int64_t,  \
                                            int64_t);                                                                  \
  template void RmsNorm<kLevel>::backward<T>(const T*, int64_t, const float*, const float*, const float*, int64_t,     \
                                             float*, int64_t, int64_t);                                                \
  template void RmsNorm<kLevel>::add<T>(const float*, const T*, int64_t, int64_t, float*, int64_t, int64_t);           \
  template void RmsNorm<kLevel>::add_forward<T>(const float*, const T*, int64_t, const float*, float, int64_t, float*, \
                                                T*, int64_t, float*, int64_t, int64_t);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu::detail
