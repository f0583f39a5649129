// What a thread computes of SwiGLU and its gradient.
#pragma once

#include "device.cuh"

namespace slmi::kernels::cuda::detail {

__device__ inline float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

template <class T, int V>
struct SwigluGradient {
  Pack<T, V> gate, up, activation;
};

template <class T, int V>
__device__ SwigluGradient<T, V> swiglu_gradient(const Pack<T, V>& gate, const Pack<T, V>& up, const Pack<T, V>& d_out) {
  SwigluGradient<T, V> out;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float g = to_f32(gate.values[i]), u = to_f32(up.values[i]), dy = to_f32(d_out.values[i]);
    const float s = sigmoid(g), silu = g * s;
    out.gate.values[i] = from_f32<T>(dy * u * (s + silu * (1.0f - s)));
    out.up.values[i] = from_f32<T>(dy * silu);
    out.activation.values[i] = from_f32<T>(silu * u);
  }
  return out;
}

}  // namespace slmi::kernels::cuda::detail
