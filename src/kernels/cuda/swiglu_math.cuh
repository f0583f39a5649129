// What a thread computes of SwiGLU and its gradient.
#pragma once

#include "device.cuh"

namespace slmi::kernels::cuda::detail {

/// 1 / (1 + exp(-x)). For 16-bit results without branches: within some ulp of f32, and beyond +-87 as there.
template <class T>
__device__ float sigmoid(float x) {
  if constexpr (sizeof(T) == 4) return 1.0f / (1.0f + expf(-x));
  constexpr float kLn2 = 0.693147180559945309f, kMost = 87.0f;  // exp(87) is below 2^126
  const float y = fminf(fmaxf(x, -kMost), kMost), power = y * -kLog2E, rounded_off = fmaf(y, -kLog2E, -power);
  const float exp = exp2_fast(power);
  return __fdividef(1.0f, 1.0f + fmaf(exp, rounded_off * kLn2, exp));
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
    const float s = sigmoid<T>(g), silu = g * s;
    out.gate.values[i] = from_f32<T>(dy * u * (s + silu * (1.0f - s)));
    out.up.values[i] = from_f32<T>(dy * silu);
    out.activation.values[i] = from_f32<T>(silu * u);
  }
  return out;
}

}  // namespace slmi::kernels::cuda::detail
