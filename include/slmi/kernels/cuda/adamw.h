// AdamW on flat f32 buffers, the gradient's norm and the scale of f16 gradients, on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"
#include "slmi/kernels/loss_scale.h"
#include "slmi/kernels/moments8.h"

namespace slmi::kernels::cuda {

/// What a step has of its own, in device memory, so that a captured step can be replayed with other numbers.
struct AdamWNumbers {
  const float* learning_rate;
  const float *bias_correction1, *bias_correction2;  // 1 - beta^step, step counted from 1
  const float* gradient_scale;            // multiplies the gradient first: 1 / targets, times the clipping factor
  const LossScale* loss_scale = nullptr;  // where its `skip` is set the gradients are cleared, and nothing else is done
};

struct AdamWConstants {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
};

// One step of torch.optim.AdamW as cpu::adamw_step does it; clears the gradients.
//
// Source    Loshchilov & Hutter 2017, arXiv:1711.05101.
// Shapes    param, grad, m, v f32 [n].
// Numerics  equal bits to the CPU's.
void adamw_step(float* param, float* grad, float* m, float* v, int64_t n, const AdamWConstants& constants,
                const AdamWNumbers& numbers, Stream stream);

/// The tables of both moments' codes, in device memory.
struct MomentMaps {
  const float *m = nullptr, *v = nullptr;                  // [256], dynamic_map() and unsigned_dynamic_map()
  const float *m_borders = nullptr, *v_borders = nullptr;  // [255], borders_of them
};

// The same with moments in 8 bits, as cpu::adamw8_step.
//
// Shapes    param, grad f32 [n].
// Numerics  equal bits to the CPU's.
void adamw8_step(float* param, float* grad, const Moments8& moments, const MomentMaps& maps, int64_t n,
                 const AdamWConstants& constants, const AdamWNumbers& numbers, Stream stream);

/// Values of `scratch` that gradient_norm needs.
int64_t gradient_norm_scratch(int64_t n);

// norm = sqrt(sum of squares) * inverse_targets;  scale = inverse_targets * min(1, max_norm / (norm + 1e-6)), without
// the second factor where max_norm is 0: what torch.nn.utils.clip_grad_norm_ does to the mean gradient.
//
// With a loss_scale (null: none) the gradients are that many times too large: inverse_targets is divided by it first,
// and it then becomes that of the next step as cpu::next_loss_scale does it; the gradient is not finite if its norm is
// not.
//
// Shapes    gradients f32 [n]; scratch f64 [gradient_norm_scratch(n)]; the others one f32 each.
// Numerics  squares and sums in f64: finite as long as the gradients are.
void gradient_norm(const float* gradients, int64_t n, double* scratch, const float* inverse_targets,
                   const float* max_norm, LossScale* loss_scale, float* norm, float* scale, Stream stream);

}  // namespace slmi::kernels::cuda
