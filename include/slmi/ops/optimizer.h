// AdamW over one flat buffer, with clipping and the scale of f16 gradients; every number that changes from step to step
// lives in device memory.
#pragma once

#include <ATen/ops/zeros.h>

#include "slmi/kernels/loss_scale.h"
#include "slmi/ops/tensor.h"

namespace slmi::ops {

using kernels::LossScale;

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
};

/// The numbers of one step, in device memory so that a captured step can be replayed: f32 [kCount].
struct StepNumbers {
  enum Index {
    LearningRate,
    BiasCorrection1,
    BiasCorrection2,
    InverseTargets,
    MaxNorm,
    GradientNorm,
    GradientScale,
    kCount
  };
  at::Tensor values;
  /// A LossScale, f32 [4]; undefined: gradients are those of the loss itself.
  at::Tensor loss_scale;
  explicit StepNumbers(at::Device device)
      : values(at::zeros({kCount}, at::TensorOptions().dtype(at::kFloat).device(device))) {}
  /// step counts from 1; num_targets is the global count that the summed loss is divided by; max_norm 0: no clipping.
  /// For what the device is given from now on; does not wait for it.
  void set(double learning_rate, int64_t step, int64_t num_targets, double max_norm, const AdamWOptions& options);
  /// From now on gradients are to be multiplied by loss_factor(). Stays at its place when called again.
  void set_loss_scale(const LossScale& state);
  /// Waits for the device. Only after set_loss_scale.
  LossScale get_loss_scale() const;
  /// The scale alone, f32 [1], as cross_entropy takes it; undefined without loss_scale.
  at::Tensor loss_factor() const;
};

/// Norm of the mean gradient (sum / targets) and the factor that divides and clips it, as torch's clip_grad_norm_ does.
/// With a loss scale both undo it, and it becomes that of the next step, as torch.amp.GradScaler updates it.
void measure_gradient(const at::Tensor& gradients, StepNumbers& numbers);

enum class MomentBits { F32, Eight };

/// AdamW's two moments, zero at first.
struct Moments {
  MomentBits bits = MomentBits::F32;
  at::Tensor m, v;                // f32 [n], or u8 [n]: codes (kernels/moments8.h)
  at::Tensor m_absmax, v_absmax;  // f32 [ceil(n / 256)]; undefined with f32
  at::Tensor maps;                // f32 [4, 256], the codes' tables where a GPU reads them; undefined elsewhere

  /// For `values`, on their device.
  Moments(const at::Tensor& values, MomentBits bits);
};

/// torch.optim.AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) on f32 [n] buffers; clears the gradients.
/// Does only that where the gradient that was measured with a loss scale is not finite.
/// @throws Error{Device} for 8-bit moments where neither the CPU's nor CUDA's kernels serve.
void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const Moments& moments,
                const AdamWOptions& options, const StepNumbers& numbers);

}  // namespace slmi::ops
