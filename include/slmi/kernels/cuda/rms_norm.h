// RMSNorm, its gradient, and the residual stream, on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

// out[t] = x[t] * rstd[t] * weight,  rstd[t] = 1 / sqrt(mean(x[t]^2) + eps)
//
// Source    Zhang & Sennrich 2019, arXiv:1910.07467; order of operations of transformers' LlamaRMSNorm in f32.
// Shapes    x f32 [rows, width] contiguous; weight f32 [width]; out T [rows, width]; rstd f32 [rows].
template <class T>
void rms_norm_forward(const float* x, const float* weight, float eps, int64_t rows, int64_t width, T* out,
                      int64_t out_stride, float* rstd, Stream stream);

// hidden_out = hidden_in + y, and the norm of that, in one pass over each row.
//
// Shapes    hidden_in, hidden_out f32 [rows, width] contiguous, may be the same; y T [rows, width].
template <class T>
void add_rms_norm_forward(const float* hidden_in, const T* y, int64_t y_stride, const float* weight, float eps,
                          int64_t rows, int64_t width, float* hidden_out, T* out, int64_t out_stride, float* rstd,
                          Stream stream);

// dx[t] += d(sum(dy * out))/dx[t] = rstd * (dy*w - x*rstd * mean(dy*w * x*rstd))
//
// Shapes    dy T [rows, width]; x f32 [rows, width] contiguous; weight f32 [width]; rstd f32 [rows] as the forward pass
//           wrote it; dx f32 [rows, width] contiguous, added to; rounded T [rows, width] gets the new dx as the next
//           product takes it, remade T [rows, width] the forward pass's out again, bit by bit; each may be null (its
//           stride is then ignored), and remade may be dy.
template <class T>
void rms_norm_backward(const T* dy, int64_t dy_stride, const float* x, const float* weight, const float* rstd,
                       int64_t rows, int64_t width, float* dx, T* rounded, int64_t rounded_stride, T* remade,
                       int64_t remade_stride, Stream stream);

// hidden_out = hidden_in + y
//
// Shapes    hidden_in, hidden_out f32 [rows, width] contiguous, may be the same; y T [rows, width].
template <class T>
void add_to_residual(const float* hidden_in, const T* y, int64_t y_stride, int64_t rows, int64_t width,
                     float* hidden_out, Stream stream);

}  // namespace slmi::kernels::cuda
