// RMSNorm and the residual stream.
#pragma once

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// out = x / sqrt(mean(x^2) + eps) * weight, computed in f32 and rounded once to out's type.
/// x f32 [T, D]; weight f32 [D]; out [T, D] in the compute type, rows may be strided; rstd f32 [T] (for the backward
/// pass). Source: Zhang & Sennrich 2019, arXiv:1910.07467; the order of operations is that of transformers'
/// LlamaRMSNorm in f32.
void rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, double eps, const at::Tensor& out,
                      const at::Tensor& rstd);

/// hidden + y as a new f32 tensor, and the norm of that; arguments as in rms_norm_forward and add_residual.
at::Tensor add_rms_norm_forward(const at::Tensor& hidden, const at::Tensor& y, const at::Tensor& weight, double eps,
                                const at::Tensor& out, const at::Tensor& rstd);

/// dx += gradient of rms_norm with respect to x. dy [T, D] in the compute type, rows may be strided; dx f32 [T, D].
/// rounded [T, D] in dy's type, rows may be strided, gets the new dx; remade, likewise, what the forward pass wrote,
/// bit by bit, and may be dy. Undefined: not wanted.
void rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                       const at::Tensor& dx, const at::Tensor& rounded = {}, const at::Tensor& remade = {});

/// Sum of hidden f32 [T, D] and y [T, D] (compute type), as a new f32 tensor.
at::Tensor add_residual(const at::Tensor& hidden, const at::Tensor& y);

}  // namespace slmi::ops
