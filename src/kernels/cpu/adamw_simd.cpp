// AdamW and the sum of squares in vectors; no fma, so that the bits are the reference's.
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

template <>
void AdamW<kLevel>::step(float* param, float* grad, float* m, float* v, const AdamWFactors& f, int64_t begin,
                         int64_t end) {
  const F gradient_scale = all(f.gradient_scale), decay = all(f.decay), one_minus_beta1 = all(f.one_minus_beta1);
  const F beta2 = all(f.beta2), one_minus_beta2 = all(f.one_minus_beta2), eps = all(f.eps);
  const F root_bc2 = all(f.root_bias_correction2), minus_step_size = all(f.minus_step_size);
  const bool clear = f.gradient_after == GradientAfter::Clear;
  for_vectors(end - begin, [&](int64_t offset, auto lanes) {
    const int64_t i = begin + offset;
    const F g = mul(load(grad + i, lanes), gradient_scale);
    const F m_old = load(m + i, lanes);
    const F m_new = add(m_old, mul(sub(g, m_old), one_minus_beta1));
    const F v_new = add(mul(load(v + i, lanes), beta2), mul(mul(one_minus_beta2, g), g));
    const F denominator = add(div(sqrt(v_new), root_bc2), eps);
    store(m + i, m_new, lanes);
    store(v + i, v_new, lanes);
    const F moved = mul(minus_step_size, div(m_new, denominator));
    store(param + i, add(mul(load(param + i, lanes), decay), moved), lanes);
    if (clear) store(grad + i, zero(), lanes);
  });
}

template <>
double AdamW<kLevel>::sum_of_squares(const float* x, int64_t n) {
  // Four vectors of four f64 at either level: lane i of vector u sums x[16k + 4u + i]. A 16-lane version is no faster
  // once the values come from memory.
  __m256d sums[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int u = 0; u < 4; ++u) {
      const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(x + i + 4 * u));
      sums[u] = _mm256_add_pd(sums[u], _mm256_mul_pd(a, a));
    }
  }
  alignas(32) double lanes[16];
  for (int u = 0; u < 4; ++u) _mm256_store_pd(lanes + 4 * u, sums[u]);
  for (int64_t j = 0; i + j < n; ++j) lanes[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  for (int half = 8; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

}  // namespace slmi::kernels::cpu::detail
