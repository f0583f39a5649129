// Rotary embedding: a thread turns a pack of each half of a head.
#include "slmi/kernels/cuda/rope.h"

#include "device.cuh"
#include "launch.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 256;

template <class T, int V>
__global__ void rotate(const T* x, int64_t x_stride, int64_t count, uint32_t num_heads, uint32_t half, const float* cos,
                       const float* sin, const int32_t* positions, float sign, T* out, int64_t out_stride) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= count) return;
  const uint32_t packs_a_head = half / V, packs_a_row = packs_a_head * num_heads;
  const auto row = static_cast<int64_t>(item / packs_a_row);
  const auto place = static_cast<uint32_t>(item % packs_a_row);
  const uint32_t head = place / packs_a_head, i = place % packs_a_head * V;
  const int64_t column = static_cast<int64_t>(head) * 2 * half + i;
  const T* low = x + row * x_stride + column;
  const int64_t angle = static_cast<int64_t>(positions[row]) * half + i;
  auto a = load<V>(low), b = load<V>(low + half);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const float c = cos[angle + j], s = sin[angle + j] * sign;
    const float p = to_f32(a.values[j]), q = to_f32(b.values[j]);
    // Rounded as the reference does, without fma.
    a.values[j] = from_f32<T>(__fsub_rn(__fmul_rn(p, c), __fmul_rn(q, s)));
    b.values[j] = from_f32<T>(__fadd_rn(__fmul_rn(q, c), __fmul_rn(p, s)));
  }
  store<V>(out + row * out_stride + column, a);
  store<V>(out + row * out_stride + column + half, b);
}

}  // namespace

template <class T>
void rope_apply(const T* x, int64_t x_stride, int64_t rows, int64_t num_heads, int64_t head_dim, const float* cos,
                const float* sin, const int32_t* positions, RopeDirection direction, T* out, int64_t out_stride,
                Stream stream) {
  const int64_t half = head_dim / 2;
  const float sign = direction == RopeDirection::Forward ? 1.0f : -1.0f;
  const auto run = [&]<int V>() {
    const int64_t count = rows * num_heads * (half / V);
    if (count == 0) return;
    rotate<T, V><<<static_cast<unsigned>(ceil_div(count, kThreads)), kThreads, 0, stream>>>(
        x, x_stride, count, static_cast<uint32_t>(num_heads), static_cast<uint32_t>(half), cos, sin, positions, sign,
        out, out_stride);
    check_launch("rope_apply");
  };
  constexpr int kPack = 16 / sizeof(T);
  packs<T, kPack>(x, x_stride, half) && packs<T, kPack>(out, out_stride, half) ? run.template operator()<kPack>()
                                                                               : run.template operator()<1>();
}

#define SLMI_FOR(T)                                                                                                  \
  template void rope_apply(const T*, int64_t, int64_t, int64_t, int64_t, const float*, const float*, const int32_t*, \
                           RopeDirection, T*, int64_t, Stream);
SLMI_FOR(float)
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
