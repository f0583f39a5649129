// RMSNorm, its gradient, and the residual stream, on the CPU. Conventions: types.h.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

// out[t] = x[t] * rstd[t] * weight,  rstd[t] = 1 / sqrt(mean(x[t]^2) + eps)
//
// Source    Zhang & Sennrich 2019, arXiv:1910.07467; order of operations of transformers' LlamaRMSNorm in f32.
// Shapes    x f32 [T, D] contiguous; weight f32 [D]; out T [T, D], rows out_stride apart; rstd f32 [T], or null.
// Items     rows.
template <class T>
void rms_norm_forward(const float* x, const float* weight, float eps, int64_t width, T* out, int64_t out_stride,
                      float* rstd, int64_t begin, int64_t end, SimdLevel level = simd().level);

// dx[t] += d(sum(dy * out))/dx[t] = rstd * (dy*w - x*rstd * mean(dy*w * x*rstd))
//
// Shapes    dy T [T, D], rows dy_stride apart; x f32 [T, D] contiguous; weight f32 [D]; rstd f32 [T] as the forward
// pass
//           wrote it; dx f32 [T, D] contiguous, added to.
// Items     rows.
template <class T>
void rms_norm_backward(const T* dy, int64_t dy_stride, const float* x, const float* weight, const float* rstd,
                       int64_t width, float* dx, int64_t begin, int64_t end, SimdLevel level = simd().level);

// hidden_out[t] = hidden_in[t] + y[t]
//
// Shapes    hidden_in, hidden_out f32 [T, D] contiguous, may be the same; y T [T, D], rows y_stride apart.
// Numerics  equal bits at every level.
// Items     rows.
template <class T>
void add_to_residual(const float* hidden_in, const T* y, int64_t y_stride, int64_t width, float* hidden_out,
                     int64_t begin, int64_t end, SimdLevel level = simd().level);

// add_to_residual and rms_norm_forward of the sum, in one pass over the row.
template <class T>
void add_rms_norm_forward(const float* hidden_in, const T* y, int64_t y_stride, const float* weight, float eps,
                          int64_t width, float* hidden_out, T* out, int64_t out_stride, float* rstd, int64_t begin,
                          int64_t end, SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
