// SwiGLU: silu(gate) * up, and its gradient. Source: Shazeer 2020, arXiv:2002.05202.
#pragma once

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// gate_up [T, 2F] (gate in the first F columns), out [T, F], rows may be strided; both in the compute type, f32
/// inside.
void swiglu_forward(const at::Tensor& gate_up, const at::Tensor& out);

/// Gradients of gate and up, [T, 2F]. d_out [T, F], rows may be strided. `activation`, where it is defined, gets what
/// swiglu_forward gave, [T, F]. May run in place: d_gate_up may be gate_up itself, activation d_out.
void swiglu_backward(const at::Tensor& gate_up, const at::Tensor& d_out, const at::Tensor& d_gate_up,
                     const at::Tensor& activation = {});

/// Whether swiglu_lora_backward takes gate_up and an adapter of this rank: on a GPU, in 16 bits.
bool swiglu_lora_fits(const at::Tensor& gate_up, int64_t rank);

/// swiglu_backward and, without writing the activation [T, F], the gradient of the A that takes it: grad_a f32 [R, F]
/// += du^T activation. du [T, R], the gradient of activation A^T. Only where swiglu_lora_fits.
void swiglu_lora_backward(const at::Tensor& gate_up, const at::Tensor& d_out, const at::Tensor& d_gate_up,
                          const at::Tensor& du, const at::Tensor& grad_a);

}  // namespace slmi::ops
