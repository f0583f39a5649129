// SwiGLU: a thread a pack of gate and up.
#include "slmi/kernels/cuda/swiglu.h"

#include "device.cuh"
#include "launch.h"
#include "swiglu_math.cuh"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 256;

/// body(row, first column) for every pack of V columns.
template <int V, class Body>
__device__ void each_pack(int64_t count, uint32_t packs_a_row, const Body& body) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item < count) body(item / packs_a_row, static_cast<int64_t>(item % packs_a_row) * V);
}

template <class T, int V>
__global__ void forward(const T* gate_up, int64_t gate_up_stride, int64_t count, uint32_t packs_a_row,
                        int64_t ffn_width, T* out, int64_t out_stride) {
  each_pack<V>(count, packs_a_row, [&](int64_t t, int64_t c) {
    const T* row = gate_up + t * gate_up_stride + c;
    const auto gate = load<V>(row), up = load<V>(row + ffn_width);
    Pack<T, V> y;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float g = to_f32(gate.values[i]);
      y.values[i] = from_f32<T>(g * sigmoid<T>(g) * to_f32(up.values[i]));
    }
    store<V>(out + t * out_stride + c, y);
  });
}

template <class T, int V>
__global__ void backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride, int64_t count,
                         uint32_t packs_a_row, int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, T* activation,
                         int64_t activation_stride) {
  each_pack<V>(count, packs_a_row, [&](int64_t t, int64_t c) {
    const T* row = gate_up + t * gate_up_stride + c;
    const auto gradient =
        swiglu_gradient(load<V>(row), load<V>(row + ffn_width), load<V>(d_out + t * d_out_stride + c));
    T* d_row = d_gate_up + t * d_gate_up_stride + c;
    store<V>(d_row, gradient.gate);
    store<V>(d_row + ffn_width, gradient.up);
    if (activation != nullptr) store<V>(activation + t * activation_stride + c, gradient.activation);
  });
}

/// launch.operator()<V>(blocks, count of packs, packs a row).
template <class T, class Launch>
void by_packs(const char* kernel, bool whole, int64_t rows, int64_t width, const Launch& launch) {
  const auto run = [&]<int V>() {
    const int64_t packs_a_row = width / V, count = rows * packs_a_row;
    if (count == 0) return;
    launch.template operator()<V>(static_cast<unsigned>(ceil_div(count, kThreads)), count,
                                  static_cast<uint32_t>(packs_a_row));
    check_launch(kernel);
  };
  constexpr int kPack = 16 / sizeof(T);
  whole ? run.template operator()<kPack>() : run.template operator()<1>();
}

}  // namespace

template <class T>
void swiglu_forward(const T* gate_up, int64_t gate_up_stride, int64_t rows, int64_t ffn_width, T* out,
                    int64_t out_stride, Stream stream) {
  constexpr int kPack = 16 / sizeof(T);
  const bool whole = packs<T, kPack>(gate_up, gate_up_stride, ffn_width) && packs<T, kPack>(out, out_stride, 0);
  by_packs<T>(
      "swiglu_forward", whole, rows, ffn_width, [&]<int V>(unsigned blocks, int64_t count, uint32_t packs_a_row) {
        forward<T, V>
            <<<blocks, kThreads, 0, stream>>>(gate_up, gate_up_stride, count, packs_a_row, ffn_width, out, out_stride);
      });
}

template <class T>
void swiglu_backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride, int64_t rows,
                     int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, T* activation,
                     int64_t activation_stride, Stream stream) {
  constexpr int kPack = 16 / sizeof(T);
  const bool whole = packs<T, kPack>(gate_up, gate_up_stride, ffn_width) && packs<T, kPack>(d_out, d_out_stride, 0) &&
                     packs<T, kPack>(d_gate_up, d_gate_up_stride, 0) &&
                     (activation == nullptr || packs<T, kPack>(activation, activation_stride, 0));
  by_packs<T>("swiglu_backward", whole, rows, ffn_width,
              [&]<int V>(unsigned blocks, int64_t count, uint32_t packs_a_row) {
                backward<T, V><<<blocks, kThreads, 0, stream>>>(gate_up, gate_up_stride, d_out, d_out_stride, count,
                                                                packs_a_row, ffn_width, d_gate_up, d_gate_up_stride,
                                                                activation, activation_stride);
              });
}

#define SLMI_FOR(T)                                                                                               \
  template void swiglu_forward(const T*, int64_t, int64_t, int64_t, T*, int64_t, Stream);                         \
  template void swiglu_backward(const T*, int64_t, const T*, int64_t, int64_t, int64_t, T*, int64_t, T*, int64_t, \
                                Stream);
SLMI_FOR(float)
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
