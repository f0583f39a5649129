// The state of dynamic loss scaling, which training in f16 needs: gradients of a sum of losses, multiplied by a power
// of two so that they lie in f16's range, and divided by it before they are used.
//
// Source    Micikevicius et al. 2017, arXiv:1710.03740, sec. 3.2; the rule is torch.amp.GradScaler's, with its factors.
#pragma once

namespace slmi::kernels {

/// In the memory of whoever computes the gradients, so that a captured step can be replayed with other numbers. All
/// f32: it is also a tensor of four, and its counts are exact up to 2^24.
struct LossScale {
  float scale = 1.0f;          // of the next gradient; a power of two
  float good_steps = 0.0f;     // in a row since the scale changed
  float skip = 0.0f;           // 1 if the gradient measured last is not finite: its step must not be taken
  float skipped_steps = 0.0f;  // in all
};
static_assert(sizeof(LossScale) == 4 * sizeof(float));

inline constexpr float kLossScaleGrowth = 2.0f, kLossScaleBackoff = 0.5f;
inline constexpr float kLossScaleInterval = 2000.0f;  // good steps before it grows

}  // namespace slmi::kernels
