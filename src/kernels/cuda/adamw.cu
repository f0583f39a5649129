// AdamW, the gradient's norm and the scale of the loss.
#include "slmi/kernels/cuda/adamw.h"

#include <algorithm>
#include <cmath>

#include "device.cuh"
#include "launch.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 256;
constexpr int64_t kSumBlock = int64_t{1} << 14;  // values a block of threads sums up

struct Factors {
  float gradient_scale, decay, one_minus_beta1, beta2, one_minus_beta2, root_bias_correction2, eps, minus_step_size;
  bool skip;
};

/// Scalars in f64, rounded once, as the reference has them; one thread a block makes them.
__device__ Factors factors_of(const AdamWConstants& c, const AdamWNumbers& n) {
  const double lr = *n.learning_rate;
  return {*n.gradient_scale,
          static_cast<float>(1.0 - lr * c.weight_decay),
          static_cast<float>(1.0 - c.beta1),
          static_cast<float>(c.beta2),
          static_cast<float>(1.0 - c.beta2),
          static_cast<float>(sqrt(static_cast<double>(*n.bias_correction2))),
          static_cast<float>(c.eps),
          static_cast<float>(-(lr / static_cast<double>(*n.bias_correction1))),
          n.loss_scale != nullptr && n.loss_scale->skip != 0.0f};
}

/// One value's step, rounded as the reference does, without fma.
__device__ void move(const Factors& f, float& param, float& grad, float& m, float& v) {
  const float gradient = __fmul_rn(grad, f.gradient_scale);
  m = __fadd_rn(m, __fmul_rn(__fsub_rn(gradient, m), f.one_minus_beta1));
  v = __fadd_rn(__fmul_rn(v, f.beta2), __fmul_rn(__fmul_rn(f.one_minus_beta2, gradient), gradient));
  const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), f.root_bias_correction2), f.eps);
  param = __fadd_rn(__fmul_rn(param, f.decay), __fmul_rn(f.minus_step_size, __fdiv_rn(m, denominator)));
  grad = 0.0f;
}

template <int V>
__global__ void step(float* param, float* grad, float* m, float* v, int64_t n, AdamWConstants constants,
                     AdamWNumbers numbers) {
  __shared__ Factors f;
  if (threadIdx.x == 0) f = factors_of(constants, numbers);
  __syncthreads();
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (begin >= n) return;
  if (f.skip) return store<V>(grad + begin, Pack<float, V>{});
  auto p = load<V>(param + begin), g = load<V>(grad + begin), mm = load<V>(m + begin), vv = load<V>(v + begin);
#pragma unroll
  for (int i = 0; i < V; ++i) move(f, p.values[i], g.values[i], mm.values[i], vv.values[i]);
  store<V>(param + begin, p);
  store<V>(grad + begin, g);
  store<V>(m + begin, mm);
  store<V>(v + begin, vv);
}

/// Greatest x of a warp.
__device__ float warp_max(float x) {
  for (int lane = kWarp / 2; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
  return x;
}

/// How many of 255 ascending borders lie below the value.
__device__ uint8_t nearest_code(const float* borders, float x, float absmax) {
  const float scaled = absmax > 0.0f ? __fdiv_rn(x, absmax) : 0.0f;
  int code = 0;
#pragma unroll
  for (int half = 128; half > 0; half /= 2)
    if (borders[code + half - 1] < scaled) code += half;
  return static_cast<uint8_t>(code);
}

/// A warp takes a block of moments, V neighbours a lane and pass, and then another.
template <int V>
__global__ void step8(float* param, float* grad, Moments8 moments, MomentMaps maps, int64_t n, int64_t blocks,
                      AdamWConstants constants, AdamWNumbers numbers) {
  static_assert(kThreads == kMomentBlock);  // a thread brings one line of the tables
  constexpr int kPasses = kMomentBlock / (kWarp * V);
  __shared__ Factors f;
  __shared__ float m_map[kMomentBlock], v_map[kMomentBlock], m_borders[kMomentBlock], v_borders[kMomentBlock];
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread == 0) f = factors_of(constants, numbers);
  m_map[thread] = maps.m[thread];
  v_map[thread] = maps.v[thread];
  if (thread + 1 < kMomentBlock) {
    m_borders[thread] = maps.m_borders[thread];
    v_borders[thread] = maps.v_borders[thread];
  }
  __syncthreads();
  const int64_t warps = static_cast<int64_t>(gridDim.x) * kThreads / kWarp;
  for (int64_t block = (static_cast<int64_t>(blockIdx.x) * kThreads + thread) / kWarp; block < blocks; block += warps) {
    const int64_t begin = block * kMomentBlock + thread % kWarp * V;
    const float old_m = moments.m_absmax[block], old_v = moments.v_absmax[block];
    Pack<float, V> m[kPasses] = {}, v[kPasses] = {};
    float m_absmax = 0.0f, v_absmax = 0.0f;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int64_t at = begin + pass * kWarp * V;
      if (at >= n) continue;
      auto g = load<V>(grad + at);
      if (!f.skip) {
        auto p = load<V>(param + at);
        const auto m_codes = load<V>(moments.m + at), v_codes = load<V>(moments.v + at);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          m[pass].values[i] = __fmul_rn(m_map[m_codes.values[i]], old_m);
          v[pass].values[i] = __fmul_rn(v_map[v_codes.values[i]], old_v);
          move(f, p.values[i], g.values[i], m[pass].values[i], v[pass].values[i]);
          m_absmax = fmaxf(m_absmax, fabsf(m[pass].values[i]));
          v_absmax = fmaxf(v_absmax, v[pass].values[i]);
        }
        store<V>(param + at, p);
      }
      store<V>(grad + at, Pack<float, V>{});
    }
    if (f.skip) continue;
    m_absmax = warp_max(m_absmax);
    v_absmax = warp_max(v_absmax);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int64_t at = begin + pass * kWarp * V;
      if (at >= n) continue;
      Pack<uint8_t, V> m_codes, v_codes;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        m_codes.values[i] = nearest_code(m_borders, m[pass].values[i], m_absmax);
        v_codes.values[i] = max(nearest_code(v_borders, v[pass].values[i], v_absmax),
                                static_cast<uint8_t>(v[pass].values[i] > 0.0f ? 1 : 0));
      }
      store<V>(moments.m + at, m_codes);
      store<V>(moments.v + at, v_codes);
    }
    if (thread % kWarp != 0) continue;
    moments.m_absmax[block] = m_absmax;
    moments.v_absmax[block] = v_absmax;
  }
}

__device__ double block_sum(double x) {
  __shared__ double sums[kThreads];
  sums[threadIdx.x] = x;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[0];
}

__global__ void squares(const float* x, int64_t n, double* sums) {
  const int64_t begin = blockIdx.x * kSumBlock, end = min(n, begin + kSumBlock);
  double sum = 0.0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) sum += static_cast<double>(x[i]) * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/// cpu::next_loss_scale.
__device__ void advance(LossScale& state, bool gradient_is_finite) {
  state.skip = gradient_is_finite ? 0.0f : 1.0f;
  state.skipped_steps += state.skip;
  state.good_steps = gradient_is_finite ? state.good_steps + 1.0f : 0.0f;
  if (!gradient_is_finite) state.scale *= kLossScaleBackoff;
  if (state.good_steps < kLossScaleInterval) return;
  state.good_steps = 0.0f;
  if (isfinite(state.scale * kLossScaleGrowth)) state.scale *= kLossScaleGrowth;
}

__global__ void norm_of(const double* sums, int64_t blocks, const float* inverse_targets, const float* max_norm,
                        LossScale* loss_scale, float* norm, float* scale) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < blocks; i += kThreads) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  constexpr float kEps = 1e-6f;  // of torch.nn.utils.clip_grad_norm_
  float inverse = *inverse_targets;
  if (loss_scale != nullptr) {
    inverse /= loss_scale->scale;  // exact: a power of two
    advance(*loss_scale, isfinite(sum));
  }
  const float mean_norm = static_cast<float>(sqrt(sum)) * inverse;
  *norm = mean_norm;
  *scale = inverse * (*max_norm > 0 ? fminf(*max_norm / (mean_norm + kEps), 1.0f) : 1.0f);
}

}  // namespace

void adamw_step(float* param, float* grad, float* m, float* v, int64_t n, const AdamWConstants& constants,
                const AdamWNumbers& numbers, Stream stream) {
  if (n == 0) return;
  const bool by_four = packs<float, 4>(param, 0, n) && packs<float, 4>(grad, 0, 0) && packs<float, 4>(m, 0, 0) &&
                       packs<float, 4>(v, 0, 0);
  const auto run = [&]<int V>() {
    step<V><<<static_cast<unsigned>(ceil_div(n / V, kThreads)), kThreads, 0, stream>>>(param, grad, m, v, n, constants,
                                                                                       numbers);
  };
  by_four ? run.template operator()<4>() : run.template operator()<1>();
  check_launch("adamw_step");
}

void adamw8_step(float* param, float* grad, const Moments8& moments, const MomentMaps& maps, int64_t n,
                 const AdamWConstants& constants, const AdamWNumbers& numbers, Stream stream) {
  if (n == 0) return;
  constexpr int64_t kMostBlocks = 1024;  // each reads the tables once
  const int64_t blocks = num_moment_blocks(n), grid = std::min(ceil_div(blocks * kWarp, kThreads), kMostBlocks);
  const bool by_four = packs<float, 4>(param, 0, n) && packs<float, 4>(grad, 0, n) &&
                       packs<uint8_t, 4>(moments.m, 0, n) && packs<uint8_t, 4>(moments.v, 0, n);
  const auto run = [&]<int V>() {
    step8<V><<<static_cast<unsigned>(grid), kThreads, 0, stream>>>(param, grad, moments, maps, n, blocks, constants,
                                                                   numbers);
  };
  by_four ? run.template operator()<4>() : run.template operator()<1>();
  check_launch("adamw8_step");
}

int64_t gradient_norm_scratch(int64_t n) {
  return ceil_div(n, kSumBlock);
}

void gradient_norm(const float* gradients, int64_t n, double* scratch, const float* inverse_targets,
                   const float* max_norm, LossScale* loss_scale, float* norm, float* scale, Stream stream) {
  const int64_t blocks = gradient_norm_scratch(n);
  if (blocks > 0) squares<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(gradients, n, scratch);
  norm_of<<<1, kThreads, 0, stream>>>(scratch, blocks, inverse_targets, max_norm, loss_scale, norm, scale);
  check_launch("gradient_norm");
}

}  // namespace slmi::kernels::cuda
