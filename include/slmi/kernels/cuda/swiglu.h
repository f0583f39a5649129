// SwiGLU and its gradient on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

// out = silu(gate) * up,  silu(x) = x / (1 + exp(-x))
//
// Source    Shazeer 2020, arXiv:2002.05202.
// Shapes    gate_up T [rows, 2F]: gate in columns [0, F), up in [F, 2F); out T [rows, F].
template <class T>
void swiglu_forward(const T* gate_up, int64_t gate_up_stride, int64_t rows, int64_t ffn_width, T* out,
                    int64_t out_stride, Stream stream);

// d_gate = d_out * up * s * (1 + gate * (1 - s)),  d_up = d_out * gate * s,  s = 1 / (1 + exp(-gate))
//
// Shapes    d_out T [rows, F]; d_gate_up T [rows, 2F]; activation T [rows, F] gets swiglu_forward's out again, or is
//           null (activation_stride then ignored).
// Aliasing  d_gate_up may be gate_up (equal strides), activation may be d_out (equal strides).
template <class T>
void swiglu_backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride, int64_t rows,
                     int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, T* activation,
                     int64_t activation_stride, Stream stream);

/// Whether swiglu_lora_backward takes rows of this layout on a card of this compute capability (90 for 9.0).
template <class T>
bool swiglu_lora_fits(int compute_capability, const T* gate_up, int64_t gate_up_stride, int64_t ffn_width,
                      int64_t rank);

/// f32 values that swiglu_lora_backward needs.
int64_t swiglu_lora_scratch(int64_t rows, int64_t ffn_width, int64_t rank);

// d_gate, d_up as swiglu_backward;  target[r][c] += sum over t of q[t][r] * out[t][c], with swiglu_forward's out
//
// With the gradient q of u = out A^T that of A, without out being written anywhere.
// Shapes    as swiglu_backward; q T [rows, rank], 16-byte starts; target f32 [rank, F] contiguous.
// Numerics  sums over fixed pieces of the rows, added in order: equal bits in every run.
// Requires  swiglu_lora_fits(gate_up) and of d_out and d_gate_up.
// Aliasing  d_gate_up may be gate_up (equal strides).
template <class T>
void swiglu_lora_backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride, int64_t rows,
                          int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, const T* q, int64_t q_stride,
                          int64_t rank, float* target, float* scratch, Stream stream);

}  // namespace slmi::kernels::cuda
