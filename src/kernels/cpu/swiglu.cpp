// SwiGLU: reference and choice of level.
#include "slmi/kernels/cpu/swiglu.h"

#include <cmath>

#include "levels.h"
#include "scalar.h"

namespace slmi::kernels::cpu {

namespace detail {

namespace {
float sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}
}  // namespace

template <>
template <class T>
void Swiglu<SimdLevel::Scalar>::forward(const T* gate_up, int64_t gate_up_stride, int64_t ffn_width, T* out,
                                        int64_t out_stride, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t i = 0; i < ffn_width; ++i) {
      const float gate = to_f32(gate_up[t * gate_up_stride + i]);
      const float up = to_f32(gate_up[t * gate_up_stride + ffn_width + i]);
      out[t * out_stride + i] = from_f32<T>(gate * sigmoid(gate) * up);
    }
  }
}

template <>
template <class T>
void Swiglu<SimdLevel::Scalar>::backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride,
                                         int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, T* activation,
                                         int64_t activation_stride, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t i = 0; i < ffn_width; ++i) {
      const float gate = to_f32(gate_up[t * gate_up_stride + i]);
      const float up = to_f32(gate_up[t * gate_up_stride + ffn_width + i]);
      const float d = to_f32(d_out[t * d_out_stride + i]);
      const float s = sigmoid(gate);
      const float silu = gate * s;
      d_gate_up[t * d_gate_up_stride + i] = from_f32<T>(d * up * (s + silu * (1.0f - s)));
      d_gate_up[t * d_gate_up_stride + ffn_width + i] = from_f32<T>(d * silu);
      if (activation != nullptr) activation[t * activation_stride + i] = from_f32<T>(silu * up);
    }
  }
}

}  // namespace detail

template <class T>
void swiglu_forward(const T* gate_up, int64_t gate_up_stride, int64_t ffn_width, T* out, int64_t out_stride,
                    int64_t begin, int64_t end, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> {
    detail::Swiglu<L>::template forward<T>(gate_up, gate_up_stride, ffn_width, out, out_stride, begin, end);
  });
}

template <class T>
void swiglu_backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride, int64_t ffn_width,
                     T* d_gate_up, int64_t d_gate_up_stride, T* activation, int64_t activation_stride, int64_t begin,
                     int64_t end, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> {
    detail::Swiglu<L>::template backward<T>(gate_up, gate_up_stride, d_out, d_out_stride, ffn_width, d_gate_up,
                                            d_gate_up_stride, activation, activation_stride, begin, end);
  });
}

#define SLMI_INSTANTIATE(T)                                                                                          \
  template void swiglu_forward<T>(const T*, int64_t, int64_t, T*, int64_t, int64_t, int64_t, SimdLevel);             \
  template void swiglu_backward<T>(const T*, int64_t, const T*, int64_t, int64_t, T*, int64_t, T*, int64_t, int64_t, \
                                   int64_t, SimdLevel);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu
