// AdamW, the sum of squares and the scale of the loss: reference and choice of level.
#include "slmi/kernels/cpu/adamw.h"

#include <algorithm>
#include <cmath>

#include "levels.h"
#include "slmi/kernels/dynamic_map.h"

namespace slmi::kernels::cpu {

namespace detail {

template <>
void AdamW<SimdLevel::Scalar>::step(float* param, float* grad, float* m, float* v, const AdamWFactors& f, int64_t begin,
                                    int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const float g = grad[i] * f.gradient_scale;
    m[i] = m[i] + (g - m[i]) * f.one_minus_beta1;
    v[i] = v[i] * f.beta2 + f.one_minus_beta2 * g * g;
    const float denominator = std::sqrt(v[i]) / f.root_bias_correction2 + f.eps;
    param[i] = param[i] * f.decay + f.minus_step_size * (m[i] / denominator);
    if (f.gradient_after == GradientAfter::Clear) grad[i] = 0.0f;
  }
}

template <>
double AdamW<SimdLevel::Scalar>::sum_of_squares(const float* x, int64_t n) {
  double sums[16] = {};
  for (int64_t i = 0; i < n; ++i) sums[i % 16] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

}  // namespace detail

namespace {

/// Scalars in f64, rounded once.
detail::AdamWFactors factors_of(const AdamWStep& step) {
  return {
      .gradient_scale = step.gradient_scale,
      .decay = static_cast<float>(1.0 - step.learning_rate * step.weight_decay),
      .one_minus_beta1 = static_cast<float>(1.0 - step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .one_minus_beta2 = static_cast<float>(1.0 - step.beta2),
      .root_bias_correction2 = static_cast<float>(std::sqrt(step.bias_correction2)),
      .eps = static_cast<float>(step.eps),
      .minus_step_size = static_cast<float>(-(step.learning_rate / step.bias_correction1)),
      .gradient_after = step.gradient_after,
  };
}

/// What a moment's codes stand for.
class Codes {
 public:
  explicit Codes(const DynamicMap& map) : map_(map), borders_(borders_of(map)) {}
  float value(uint8_t code, float absmax) const { return map_[code] * absmax; }
  uint8_t nearest(float x, float absmax) const {
    const float scaled = absmax > 0.0f ? x / absmax : 0.0f;
    size_t code = 0;
    for (size_t half = 128; half > 0; half /= 2)
      if (borders_[code + half - 1] < scaled) code += half;
    return static_cast<uint8_t>(code);
  }

 private:
  const DynamicMap& map_;
  std::array<float, 255> borders_;
};

}  // namespace

void adamw_step(float* param, float* grad, float* m, float* v, const AdamWStep& step, int64_t begin, int64_t end,
                SimdLevel level) {
  const detail::AdamWFactors f = factors_of(step);
  detail::at_level(level, [&]<SimdLevel L> { detail::AdamW<L>::step(param, grad, m, v, f, begin, end); });
}

void adamw8_step(float* param, float* grad, const Moments8& moments, int64_t n, const AdamWStep& step, int64_t begin,
                 int64_t end) {
  static const Codes first(dynamic_map()), second(unsigned_dynamic_map());
  const detail::AdamWFactors f = factors_of(step);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t at = block * kMomentBlock, size = std::min(kMomentBlock, n - at);
    float &m_absmax = moments.m_absmax[block], &v_absmax = moments.v_absmax[block];
    float m[kMomentBlock], v[kMomentBlock];
    for (int64_t i = 0; i < size; ++i) {
      m[i] = first.value(moments.m[at + i], m_absmax);
      v[i] = second.value(moments.v[at + i], v_absmax);
    }
    detail::at_level(simd().level,
                     [&]<SimdLevel L> { detail::AdamW<L>::step(param + at, grad + at, m, v, f, 0, size); });
    m_absmax = v_absmax = 0.0f;
    for (int64_t i = 0; i < size; ++i) {
      m_absmax = std::max(m_absmax, std::fabs(m[i]));
      v_absmax = std::max(v_absmax, v[i]);
    }
    for (int64_t i = 0; i < size; ++i) {
      moments.m[at + i] = first.nearest(m[i], m_absmax);
      moments.v[at + i] = std::max<uint8_t>(second.nearest(v[i], v_absmax), v[i] > 0.0f ? 1 : 0);
    }
  }
}

void sum_of_squares(const float* x, int64_t n, double* block_sums, int64_t begin, int64_t end, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> {
    for (int64_t b = begin; b < end; ++b) {
      block_sums[b] = detail::AdamW<L>::sum_of_squares(x + b * kSumBlock, std::min(kSumBlock, n - b * kSumBlock));
    }
  });
}

LossScale next_loss_scale(LossScale state, bool gradient_is_finite) {
  state.skip = gradient_is_finite ? 0.0f : 1.0f;
  state.skipped_steps += state.skip;
  state.good_steps = gradient_is_finite ? state.good_steps + 1.0f : 0.0f;
  if (!gradient_is_finite) state.scale *= kLossScaleBackoff;
  if (state.good_steps < kLossScaleInterval) return state;
  state.good_steps = 0.0f;
  if (std::isfinite(state.scale * kLossScaleGrowth)) state.scale *= kLossScaleGrowth;
  return state;
}

}  // namespace slmi::kernels::cpu
