// AdamW; see the header.
#include "slmi/ops/optimizer.h"

#include "cuda_types.h"
#include "slmi/base/error.h"
#include "slmi/kernels/cpu/adamw.h"
#include "slmi/kernels/cuda/adamw.h"
#include "slmi/kernels/dynamic_map.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace slmi::ops {

void StepNumbers::set(double learning_rate, int64_t step, int64_t num_targets, double max_norm,
                      const AdamWOptions& options) {
  const bool pinned = !values.device().is_cpu();
  const at::Tensor host = at::zeros({kCount}, at::TensorOptions().dtype(at::kFloat).pinned_memory(pinned));
  float* v = host.data_ptr<float>();
  const auto t = static_cast<double>(step);
  v[LearningRate] = static_cast<float>(learning_rate);
  v[BiasCorrection1] = static_cast<float>(1.0 - std::pow(options.beta1, t));
  v[BiasCorrection2] = static_cast<float>(1.0 - std::pow(options.beta2, t));
  v[InverseTargets] = static_cast<float>(1.0 / static_cast<double>(num_targets));
  v[MaxNorm] = static_cast<float>(max_norm);
  values.copy_(host, /*non_blocking=*/true);  // libtorch keeps pinned memory until it is copied
}

void StepNumbers::set_loss_scale(const LossScale& state) {
  const at::Tensor host = at::tensor({state.scale, state.good_steps, state.skip, state.skipped_steps}, at::kFloat);
  if (!loss_scale.defined()) loss_scale = at::empty_like(host, values.options());
  loss_scale.copy_(host);
}

LossScale StepNumbers::get_loss_scale() const {
  return *pointer<LossScale>(loss_scale.cpu());
}

at::Tensor StepNumbers::loss_factor() const {
  return loss_scale.defined() ? loss_scale.narrow(0, 0, 1) : at::Tensor();
}

namespace {

/// f64 scalar on the tensor's device; on the CPU in blocks of fixed size, so that the sum does not depend on the
/// threads.
at::Tensor sum_of_squares(const at::Tensor& x) {
  if (!x.device().is_cpu()) return x.to(at::kDouble).square().sum();
  std::vector<double> sums(static_cast<size_t>(kernels::cpu::num_sum_blocks(x.numel())));
  parallel(static_cast<int64_t>(sums.size()), 1, [&](int64_t begin, int64_t end) {
    kernels::cpu::sum_of_squares(pointer<float>(x), x.numel(), sums.data(), begin, end);
  });
  return at::scalar_tensor(std::accumulate(sums.begin(), sums.end(), 0.0), at::kDouble);
}

}  // namespace

void measure_gradient(const at::Tensor& gradients, StepNumbers& numbers) {
  const auto at_index = [&](StepNumbers::Index i) { return numbers.values.narrow(0, i, 1); };
  const bool done = on_cuda(gradients, [&](auto, auto stream) {
    const at::Tensor scratch =
        at::empty({kernels::cuda::gradient_norm_scratch(gradients.numel())}, gradients.options().dtype(at::kDouble));
    float* n = pointer<float>(numbers.values);
    auto* loss_scale = numbers.loss_scale.defined() ? pointer<LossScale>(numbers.loss_scale) : nullptr;
    kernels::cuda::gradient_norm(pointer<float>(gradients), gradients.numel(), pointer<double>(scratch),
                                 n + StepNumbers::InverseTargets, n + StepNumbers::MaxNorm, loss_scale,
                                 n + StepNumbers::GradientNorm, n + StepNumbers::GradientScale, stream);
  });
  if (done) return;
  constexpr double kEps = 1e-6;  // of torch.nn.utils.clip_grad_norm_
  const at::Tensor squares = sum_of_squares(gradients);
  at::Tensor inverse = at_index(StepNumbers::InverseTargets);
  if (numbers.loss_scale.defined()) {
    const LossScale state = numbers.get_loss_scale();
    inverse = inverse / state.scale;
    numbers.set_loss_scale(kernels::cpu::next_loss_scale(state, std::isfinite(squares.item<double>())));
  }
  const at::Tensor norm = squares.sqrt().to(at::kFloat).view({1}) * inverse;
  const at::Tensor limit = at_index(StepNumbers::MaxNorm);
  const at::Tensor clipped = (limit / (norm + kEps)).clamp_max(1.0);
  at_index(StepNumbers::GradientNorm).copy_(norm);
  at_index(StepNumbers::GradientScale).copy_(inverse * at::where(limit > 0, clipped, at::ones_like(clipped)));
}

Moments::Moments(const at::Tensor& values, MomentBits wanted) : bits(wanted) {
  if (bits == MomentBits::F32) {
    m = at::zeros_like(values);
    v = at::zeros_like(values);
    return;
  }
  m = at::zeros_like(values, at::kByte);
  v = at::zeros_like(m);
  m_absmax = at::zeros({kernels::num_moment_blocks(values.numel())}, values.options());
  v_absmax = at::zeros_like(m_absmax);
  if (values.device().is_cpu()) return;
  const at::Tensor host = at::zeros({4, static_cast<int64_t>(kernels::dynamic_map().size())}, at::kFloat);
  const auto fill = [&](int64_t row, const auto& table) {
    std::copy(table.begin(), table.end(), pointer<float>(host) + row * host.size(1));
  };
  fill(0, kernels::dynamic_map());
  fill(1, kernels::unsigned_dynamic_map());
  fill(2, kernels::borders_of(kernels::dynamic_map()));
  fill(3, kernels::borders_of(kernels::unsigned_dynamic_map()));
  maps = host.to(values.device());
}

namespace {

kernels::Moments8 in_8_bits(const Moments& moments) {
  return {pointer<uint8_t>(moments.m), pointer<uint8_t>(moments.v), pointer<float>(moments.m_absmax),
          pointer<float>(moments.v_absmax)};
}

void step_on_cpu(const at::Tensor& values, const at::Tensor& gradients, const Moments& moments,
                 const AdamWOptions& options, const StepNumbers& numbers) {
  if (numbers.loss_scale.defined() && numbers.get_loss_scale().skip != 0.0f) {
    gradients.zero_();
    return;
  }
  const float* n = pointer<float>(numbers.values);
  kernels::cpu::AdamWStep step;
  step.learning_rate = n[StepNumbers::LearningRate];
  step.beta1 = options.beta1;
  step.beta2 = options.beta2;
  step.eps = options.eps;
  step.weight_decay = options.weight_decay;
  step.bias_correction1 = n[StepNumbers::BiasCorrection1];
  step.bias_correction2 = n[StepNumbers::BiasCorrection2];
  step.gradient_scale = n[StepNumbers::GradientScale];
  step.gradient_after = kernels::cpu::GradientAfter::Clear;
  constexpr int64_t kGrain = 1 << 16;
  float *param = pointer<float>(values), *grad = pointer<float>(gradients);
  if (moments.bits == MomentBits::Eight) {
    parallel(moments.m_absmax.numel(), kGrain / kernels::kMomentBlock, [&](int64_t begin, int64_t end) {
      kernels::cpu::adamw8_step(param, grad, in_8_bits(moments), values.numel(), step, begin, end);
    });
    return;
  }
  parallel(values.numel(), kGrain, [&](int64_t begin, int64_t end) {
    kernels::cpu::adamw_step(param, grad, pointer<float>(moments.m), pointer<float>(moments.v), step, begin, end);
  });
}

bool step_on_cuda(const at::Tensor& values, const at::Tensor& gradients, const Moments& moments,
                  const AdamWOptions& options, const StepNumbers& numbers) {
  return on_cuda(values, [&](auto, auto stream) {
    const float* n = pointer<float>(numbers.values);
    const auto* loss_scale = numbers.loss_scale.defined() ? pointer<LossScale>(numbers.loss_scale) : nullptr;
    const kernels::cuda::AdamWConstants constants = {options.beta1, options.beta2, options.eps, options.weight_decay};
    const kernels::cuda::AdamWNumbers own = {n + StepNumbers::LearningRate, n + StepNumbers::BiasCorrection1,
                                             n + StepNumbers::BiasCorrection2, n + StepNumbers::GradientScale,
                                             loss_scale};
    float *param = pointer<float>(values), *grad = pointer<float>(gradients);
    if (moments.bits == MomentBits::F32)
      return kernels::cuda::adamw_step(param, grad, pointer<float>(moments.m), pointer<float>(moments.v),
                                       values.numel(), constants, own, stream);
    const auto table = [&](int64_t row) { return pointer<float>(moments.maps) + row * moments.maps.size(1); };
    kernels::cuda::adamw8_step(param, grad, in_8_bits(moments), {table(0), table(1), table(2), table(3)},
                               values.numel(), constants, own, stream);
  });
}

}  // namespace

void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const Moments& moments,
                const AdamWOptions& options, const StepNumbers& numbers) {
  if (values.device().is_cpu()) return step_on_cpu(values, gradients, moments, options, numbers);
  if (step_on_cuda(values, gradients, moments, options, numbers)) return;
  require(moments.bits == MomentBits::F32, ErrorKind::Device,
          "AdamW with 8-bit moments has no kernel on {}; use --optimizer adamw", values.device().str());
  const at::Tensor &m = moments.m, &v = moments.v;
  const auto number = [&](StepNumbers::Index i) { return numbers.values.narrow(0, i, 1); };
  const at::Tensor lr = number(StepNumbers::LearningRate);
  gradients.mul_(number(StepNumbers::GradientScale));
  if (options.weight_decay > 0) values.mul_(1.0 - lr * options.weight_decay);
  m.mul_(options.beta1).add_(gradients, 1.0 - options.beta1);
  v.mul_(options.beta2).addcmul_(gradients, gradients, 1.0 - options.beta2);
  const at::Tensor denominator = (v / number(StepNumbers::BiasCorrection2)).sqrt_().add_(options.eps);
  values.sub_((m / number(StepNumbers::BiasCorrection1)).div_(denominator).mul_(lr));
  gradients.zero_();
}

}  // namespace slmi::ops
