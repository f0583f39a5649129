// RMSNorm: a block a row, the row in registers between the sum and the scaling.
#include "slmi/kernels/cuda/rms_norm.h"

#include <algorithm>

#include "device.cuh"
#include "launch.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kMaxThreads = 256;

/// A row of `width` values as a block holds it: kPacks packs of V a thread, thread by thread.
template <int V, int kPacks>
struct Row {
  float x[kPacks][V];

  /// body(pack, first column) for every pack of this thread that lies in the row.
  template <class Body>
  __device__ static void each(int64_t width, const Body& body) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int64_t column = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * V;
      if (column < width) body(p, column);
    }
  }
};

template <class T>
struct Forward {
  const float* hidden_in;
  const T* y;  // or null
  int64_t y_stride;
  const float* weight;
  float eps;
  int64_t width;
  float* hidden_out;
  T* out;
  int64_t out_stride;
  float* rstd;
  Stream stream;
};

template <class T, int V, int kPacks>
__global__ void forward(Forward<T> a) {
  const int64_t t = blockIdx.x;
  Row<V, kPacks> row;
  float sum = 0.0f;
  row.each(a.width, [&](int p, int64_t c) {
    const auto in = load<V>(a.hidden_in + t * a.width + c);
#pragma unroll
    for (int i = 0; i < V; ++i) row.x[p][i] = in.values[i];
    if (a.y != nullptr) {
      const auto y = load<V>(a.y + t * a.y_stride + c);
      Pack<float, V> hidden;
#pragma unroll
      for (int i = 0; i < V; ++i) hidden.values[i] = row.x[p][i] += to_f32(y.values[i]);
      store<V>(a.hidden_out + t * a.width + c, hidden);
    }
#pragma unroll
    for (int i = 0; i < V; ++i) sum += row.x[p][i] * row.x[p][i];
  });
  const float rstd = 1.0f / sqrtf(block_sum(sum) / static_cast<float>(a.width) + a.eps);
  if (threadIdx.x == 0) a.rstd[t] = rstd;
  row.each(a.width, [&](int p, int64_t c) {
    const auto weight = load<V>(a.weight + c);
    Pack<T, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) out.values[i] = from_f32<T>(row.x[p][i] * rstd * weight.values[i]);
    store<V>(a.out + t * a.out_stride + c, out);
  });
}

template <class T>
struct Backward {
  const T* dy;
  int64_t dy_stride;
  const float *x, *weight, *rstd;
  int64_t width;
  float* dx;
  T* rounded;  // or null
  int64_t rounded_stride;
  T* remade;  // or null
  int64_t remade_stride;
};

template <class T, int V, int kPacks>
__global__ void backward(Backward<T> a) {
  const int64_t t = blockIdx.x;
  const float rstd = a.rstd[t];
  Row<V, kPacks> normalized, dn;
  float sum = 0.0f;
  normalized.each(a.width, [&](int p, int64_t c) {
    const auto x = load<V>(a.x + t * a.width + c), weight = load<V>(a.weight + c);
    const auto dy = load<V>(a.dy + t * a.dy_stride + c);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      normalized.x[p][i] = x.values[i] * rstd;
      dn.x[p][i] = to_f32(dy.values[i]) * weight.values[i];
      sum += dn.x[p][i] * normalized.x[p][i];
    }
  });
  const float projection = block_sum(sum) / static_cast<float>(a.width);
  normalized.each(a.width, [&](int p, int64_t c) {
    auto dx = load<V>(a.dx + t * a.width + c);
#pragma unroll
    for (int i = 0; i < V; ++i) dx.values[i] += (dn.x[p][i] - normalized.x[p][i] * projection) * rstd;
    store<V>(a.dx + t * a.width + c, dx);
    if (a.rounded != nullptr) {
      Pack<T, V> rounded;
#pragma unroll
      for (int i = 0; i < V; ++i) rounded.values[i] = from_f32<T>(dx.values[i]);
      store<V>(a.rounded + t * a.rounded_stride + c, rounded);
    }
    if (a.remade == nullptr) return;
    const auto weight = load<V>(a.weight + c);
    Pack<T, V> remade;
#pragma unroll
    for (int i = 0; i < V; ++i) remade.values[i] = from_f32<T>(normalized.x[p][i] * weight.values[i]);
    store<V>(a.remade + t * a.remade_stride + c, remade);
  });
}

template <class T, int V>
__global__ void add(const float* hidden_in, const T* y, int64_t y_stride, int64_t width, float* hidden_out) {
  const int64_t t = blockIdx.x;
  for (int64_t c = threadIdx.x * V; c < width; c += static_cast<int64_t>(blockDim.x) * V) {
    auto hidden = load<V>(hidden_in + t * width + c);
    const auto update = load<V>(y + t * y_stride + c);
#pragma unroll
    for (int i = 0; i < V; ++i) hidden.values[i] += to_f32(update.values[i]);
    store<V>(hidden_out + t * width + c, hidden);
  }
}

unsigned threads_for(int64_t packs) {
  return static_cast<unsigned>(std::clamp<int64_t>(ceil_div(packs, kWarp) * kWarp, kWarp, kMaxThreads));
}

/// launch.operator()<V, kPacks>(threads): packs of four where rows allow it, and as few a thread as hold the row.
template <class Launch>
void at_width(const char* kernel, int64_t width, bool by_four, const Launch& launch) {
  const int64_t packs = by_four ? width / 4 : width;
  const unsigned threads = threads_for(packs);
  const int64_t each = ceil_div(packs, threads);
  const auto sized = [&]<int V>() {
    if (each <= 1) return launch.template operator()<V, 1>(threads);
    if (each <= 2) return launch.template operator()<V, 2>(threads);
    if (each <= 4) return launch.template operator()<V, 4>(threads);
    if (each <= 8) return launch.template operator()<V, 8>(threads);
    if (each <= 32) return launch.template operator()<V, 32>(threads);
    refuse(kernel, "rows of more than 8192 values, or 32768 where they are multiples of 4");
  };
  by_four ? sized.template operator()<4>() : sized.template operator()<1>();
  check_launch(kernel);
}

template <class T>
void launch_forward(const char* kernel, int64_t rows, const Forward<T>& a) {
  if (rows == 0) return;
  const bool by_four = packs<float, 4>(a.hidden_in, a.width, 0) && packs<float, 4>(a.weight, 0, 0) &&
                       packs<T, 4>(a.out, a.out_stride, 0) &&
                       (a.y == nullptr || (packs<T, 4>(a.y, a.y_stride, 0) && packs<float, 4>(a.hidden_out, 0, 0)));
  at_width(kernel, a.width, by_four, [&]<int V, int kPacks>(unsigned threads) {
    forward<T, V, kPacks><<<static_cast<unsigned>(rows), threads, 0, a.stream>>>(a);
  });
}

}  // namespace

template <class T>
void rms_norm_forward(const float* x, const float* weight, float eps, int64_t rows, int64_t width, T* out,
                      int64_t out_stride, float* rstd, Stream stream) {
  launch_forward<T>("rms_norm_forward", rows,
                    {x, nullptr, 0, weight, eps, width, nullptr, out, out_stride, rstd, stream});
}

template <class T>
void add_rms_norm_forward(const float* hidden_in, const T* y, int64_t y_stride, const float* weight, float eps,
                          int64_t rows, int64_t width, float* hidden_out, T* out, int64_t out_stride, float* rstd,
                          Stream stream) {
  launch_forward<T>("add_rms_norm_forward", rows,
                    {hidden_in, y, y_stride, weight, eps, width, hidden_out, out, out_stride, rstd, stream});
}

template <class T>
void rms_norm_backward(const T* dy, int64_t dy_stride, const float* x, const float* weight, const float* rstd,
                       int64_t rows, int64_t width, float* dx, T* rounded, int64_t rounded_stride, T* remade,
                       int64_t remade_stride, Stream stream) {
  if (rows == 0) return;
  const Backward<T> a = {dy, dy_stride, x, weight, rstd, width, dx, rounded, rounded_stride, remade, remade_stride};
  const bool by_four = packs<T, 4>(dy, dy_stride, 0) && packs<float, 4>(x, width, 0) && packs<float, 4>(weight, 0, 0) &&
                       packs<float, 4>(dx, 0, 0) && (rounded == nullptr || packs<T, 4>(rounded, rounded_stride, 0)) &&
                       (remade == nullptr || packs<T, 4>(remade, remade_stride, 0));
  at_width("rms_norm_backward", width, by_four, [&]<int V, int kPacks>(unsigned threads) {
    backward<T, V, kPacks><<<static_cast<unsigned>(rows), threads, 0, stream>>>(a);
  });
}

template <class T>
void add_to_residual(const float* hidden_in, const T* y, int64_t y_stride, int64_t rows, int64_t width,
                     float* hidden_out, Stream stream) {
  if (rows == 0) return;
  const bool by_four =
      packs<T, 4>(y, y_stride, 0) && packs<float, 4>(hidden_in, width, 0) && packs<float, 4>(hidden_out, 0, 0);
  const auto grid = static_cast<unsigned>(rows);
  if (by_four)
    add<T, 4><<<grid, threads_for(width / 4), 0, stream>>>(hidden_in, y, y_stride, width, hidden_out);
  else
    add<T, 1><<<grid, threads_for(width), 0, stream>>>(hidden_in, y, y_stride, width, hidden_out);
  check_launch("add_to_residual");
}

#define SLMI_FOR(T)                                                                                                  \
  template void rms_norm_forward(const float*, const float*, float, int64_t, int64_t, T*, int64_t, float*, Stream);  \
  template void add_rms_norm_forward(const float*, const T*, int64_t, const float*, float, int64_t, int64_t, float*, \
                                     T*, int64_t, float*, Stream);                                                   \
  template void rms_norm_backward(const T*, int64_t, const float*, const float*, const float*, int64_t, int64_t,     \
                                  float*, T*, int64_t, T*, int64_t, Stream);                                         \
  template void add_to_residual(const float*, const T*, int64_t, int64_t, int64_t, float*, Stream);
SLMI_FOR(float)
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
