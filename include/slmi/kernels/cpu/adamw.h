// AdamW on flat f32 buffers, the norm that clipping needs, and the scale of f16 gradients, on the CPU. Conventions:
// types.h.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"
#include "slmi/kernels/loss_scale.h"
#include "slmi/kernels/moments8.h"

namespace slmi::kernels::cpu {

enum class GradientAfter { Keep, Clear };

/// The numbers of one step. bias_correctionN = 1 - betaN^step, step counted from 1.
struct AdamWStep {
  double learning_rate = 0.0;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  double bias_correction1 = 1.0, bias_correction2 = 1.0;
  float gradient_scale = 1.0f;  // multiplies the gradient first: 1 / targets, times the clipping factor
  GradientAfter gradient_after = GradientAfter::Keep;
};

// One step of torch.optim.AdamW, in its order of operations (single-tensor form), f32:
//   g *= gradient_scale;  p *= 1 - lr * wd;  m += (g - m) * (1 - beta1);  v = v * beta2 + (1 - beta2) * g * g
//   p -= lr / bc1 * (m / (sqrt(v) / sqrt(bc2) + eps))
//
// Source    Loshchilov & Hutter 2017, arXiv:1711.05101.
// Shapes    param, grad, m, v f32 [n].  Scalars are computed in f64 and rounded once to f32.
// Numerics  equal bits at every level.
// Items     elements.
void adamw_step(float* param, float* grad, float* m, float* v, const AdamWStep& step, int64_t begin, int64_t end,
                SimdLevel level = simd().level);

// The same with moments in 8 bits: they are expanded, take their step in f32, move the parameter, and are quantized
// again.
//
// Shapes    param, grad f32 [n].
// Numerics  a code is the nearest value of moment / absmax, a tie the lower.
// Items     blocks of kMomentBlock elements.
void adamw8_step(float* param, float* grad, const Moments8& moments, int64_t n, const AdamWStep& step, int64_t begin,
                 int64_t end);

/// Elements a block of sum_of_squares: long enough to share out, fixed so that the sum does not depend on the threads.
inline constexpr int64_t kSumBlock = int64_t{1} << 16;
constexpr int64_t num_sum_blocks(int64_t n) {
  return (n + kSumBlock - 1) / kSumBlock;
}

// block_sums[b] = sum of x[i]^2 over block b; the caller adds them in order.
//
// Shapes    x f32 [n]; block_sums f64 [num_sum_blocks(n)].
// Numerics  squares are exact in f64; 16 interleaved sums a block, added pairwise: equal bits at every level.
// Items     blocks.
void sum_of_squares(const float* x, int64_t n, double* block_sums, int64_t begin, int64_t end,
                    SimdLevel level = simd().level);

/// What a step's gradient does to the scale of the next: not finite, it halves and the step is to be skipped; else it
/// doubles after every kLossScaleInterval good steps in a row, unless that is no f32.
LossScale next_loss_scale(LossScale state, bool gradient_is_finite);

}  // namespace slmi::kernels::cpu
