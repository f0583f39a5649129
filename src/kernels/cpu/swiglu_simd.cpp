// SwiGLU in vectors.
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

template <>
template <class T>
void Swiglu<kLevel>::forward(const T* gate_up, int64_t gate_up_stride, int64_t ffn_width, T* out, int64_t out_stride,
                             int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* gate = gate_up + t * gate_up_stride;
    const T* up = gate + ffn_width;
    T* row = out + t * out_stride;
    for_vectors(ffn_width, [&](int64_t i, auto lanes) {
      const F g = load(gate + i, lanes);
      store(row + i, mul(mul(g, sigmoid(g)), load(up + i, lanes)), lanes);
    });
  }
}

template <>
template <class T>
void Swiglu<kLevel>::backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride,
                              int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, T* activation,
                              int64_t activation_stride, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* gate = gate_up + t * gate_up_stride;
    const T* d_row = d_out + t * d_out_stride;
    T* d_gate = d_gate_up + t * d_gate_up_stride;
    T* act = activation == nullptr ? nullptr : activation + t * activation_stride;
    for_vectors(ffn_width, [&](int64_t i, auto lanes) {
      const F g = load(gate + i, lanes), u = load(gate + ffn_width + i, lanes), d = load(d_row + i, lanes);
      const F s = sigmoid(g);
      const F silu = mul(g, s);
      store(d_gate + i, mul(mul(d, u), fma(silu, sub(all(1.0f), s), s)), lanes);
      store(d_gate + ffn_width + i, mul(d, silu), lanes);
      if (act != nullptr) store(act + i, mul(silu, u), lanes);
    });
  }
}

#define SLMI_INSTANTIATE(T)                                                                                          \
  template void Swiglu<kLevel>::forward<T>(const T*, int64_t, int64_t, T*, int64_t, int64_t, int64_t);               \
  template void Swiglu<kLevel>::backward<T>(const T*, int64_t, const T*, int64_t, int64_t, T*, int64_t, T*, int64_t, \
                                            int64_t, int64_t);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu::detail
