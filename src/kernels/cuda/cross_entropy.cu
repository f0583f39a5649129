// Cross-entropy: a block a row; the second reading of a row comes from the L2.
#include "slmi/kernels/cuda/cross_entropy.h"

#include <cmath>

#include "device.cuh"
#include "launch.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 1024;

/// max and sum of exp(x - max) of what was seen so far.
struct Running {
  float max = -INFINITY, sum = 0.0f;

  __device__ void add(float x) {
    if (x > max) {  // never for a NaN, which goes into the sum
      sum = sum * expf(max - x) + 1.0f;
      max = x;
    } else if (x != -INFINITY) {
      sum += expf(x - max);
    }
  }
  __device__ void add(const Running& other) {
    const float top = fmaxf(max, other.max);
    if (top == -INFINITY) {
      sum += other.sum;  // nothing yet, or NaN alone
      return;
    }
    sum = sum * expf(max - top) + other.sum * expf(other.max - top);
    max = top;
  }
  __device__ Running shuffled(int step) const {
    Running out;
    out.max = __shfl_xor_sync(0xffffffff, max, step);
    out.sum = __shfl_xor_sync(0xffffffff, sum, step);
    return out;
  }
};

/// log(sum(exp)) over the block; every thread gets it.
__device__ float block_log_sum(Running mine) {
  __shared__ Running parts[kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2) mine.add(mine.shuffled(step));
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Running all = parts[threadIdx.x % kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2) all.add(all.shuffled(step));
  return all.max + logf(all.sum);
}

template <class T, int V, bool kGradient>
__global__ void rows_of(T* logits, int64_t stride, int64_t vocabulary, const int32_t* targets, const float* scale,
                        float* loss) {
  T* row = logits + static_cast<int64_t>(blockIdx.x) * stride;
  const int32_t target = targets[blockIdx.x];
  if (target < 0) {
    if (threadIdx.x == 0) loss[blockIdx.x] = 0.0f;
    if constexpr (kGradient)
      for (int64_t c = threadIdx.x * V; c < vocabulary; c += static_cast<int64_t>(kThreads) * V)
        store<V>(row + c, Pack<T, V>{});
    return;
  }
  const float of_target = to_f32(row[target]);
  Running running;
  for (int64_t c = threadIdx.x * V; c < vocabulary; c += static_cast<int64_t>(kThreads) * V) {
    const auto x = load<V>(row + c);
#pragma unroll
    for (int i = 0; i < V; ++i) running.add(to_f32(x.values[i]));
  }
  const float lse = block_log_sum(running);  // waits for all: of_target was read before anything is written
  if (threadIdx.x == 0) loss[blockIdx.x] = lse - of_target;
  if constexpr (kGradient) {
    const float factor = scale != nullptr ? *scale : 1.0f;
    for (int64_t c = threadIdx.x * V; c < vocabulary; c += static_cast<int64_t>(kThreads) * V) {
      auto x = load<V>(row + c);
#pragma unroll
      for (int i = 0; i < V; ++i)
        x.values[i] = from_f32<T>((expf(to_f32(x.values[i]) - lse) - (c + i == target ? 1.0f : 0.0f)) * factor);
      store<V>(row + c, x);
    }
  }
}

template <bool kGradient, class T>
void launch(const char* kernel, T* logits, int64_t stride, int64_t rows, int64_t vocabulary, const int32_t* targets,
            const float* scale, float* loss, Stream stream) {
  if (rows == 0) return;
  constexpr int kPack = 16 / sizeof(T);
  const auto run = [&]<int V>() {
    rows_of<T, V, kGradient>
        <<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(logits, stride, vocabulary, targets, scale, loss);
  };
  packs<T, kPack>(logits, stride, vocabulary) ? run.template operator()<kPack>() : run.template operator()<1>();
  check_launch(kernel);
}

}  // namespace

template <class T>
void cross_entropy_loss(const T* logits, int64_t stride, int64_t rows, int64_t vocabulary, const int32_t* targets,
                        float* loss, Stream stream) {
  launch<false>("cross_entropy_loss", const_cast<T*>(logits), stride, rows, vocabulary, targets, nullptr, loss, stream);
}

template <class T>
void cross_entropy_gradient(T* logits, int64_t stride, int64_t rows, int64_t vocabulary, const int32_t* targets,
                            const float* scale, float* loss, Stream stream) {
  launch<true>("cross_entropy_gradient", logits, stride, rows, vocabulary, targets, scale, loss, stream);
}

#define SLMI_FOR(T)                                                                                      \
  template void cross_entropy_loss(const T*, int64_t, int64_t, int64_t, const int32_t*, float*, Stream); \
  template void cross_entropy_gradient(T*, int64_t, int64_t, int64_t, const int32_t*, const float*, float*, Stream);
SLMI_FOR(float)
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
