// Cross-entropy: a block a row. For the gradient a row is read twice: what shared memory has room for comes from there
// the second time (88 % of 128,256 logits in 16 bits on an H100), the rest from the L2.
#include "slmi/kernels/cuda/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "device.cuh"
#include "launch.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 1024;

/// max and sum of exp(x - max) of what was seen so far.
struct Running {
  float max = -INFINITY, sum = 0.0f;

  template <int V>
  __device__ void add(const float (&x)[V]) {
    float top = x[0];
#pragma unroll
    for (int i = 1; i < V; ++i) top = fmaxf(top, x[i]);  // passes NaNs over, which go into the sum
    if (top > max) {
      sum *= exp2_fast((max - top) * kLog2E);
      max = top;
    }
    const float from = max == -INFINITY ? 0.0f : max;  // differences first: the greatest counts exactly 1
    float parts[2] = {};
#pragma unroll
    for (int i = 0; i < V; ++i) parts[i % 2] += exp2_fast((x[i] - from) * kLog2E);
    sum += parts[0] + parts[1];
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

/// Probability of a logit.
template <class T>
__device__ float probability(float x, float lse) {
  return std::is_same_v<T, float> ? expf(x - lse) : exp2_fast((x - lse) * kLog2E);
}

/// `kept`: columns that shared memory holds between both readings, a multiple of V.
template <class T, int V, bool kGradient>
__global__ void __launch_bounds__(kThreads) rows_of(T* logits, int64_t stride, int64_t vocabulary, int64_t kept,
                                                    const int32_t* targets, const float* scale, float* loss) {
  extern __shared__ __align__(16) unsigned char kept_bytes[];
  T* kept_row = reinterpret_cast<T*>(kept_bytes);
  constexpr int64_t kStep = static_cast<int64_t>(kThreads) * V;
  T* row = logits + static_cast<int64_t>(blockIdx.x) * stride;
  const int32_t target = targets[blockIdx.x];
  if (target < 0) {
    if (threadIdx.x == 0) loss[blockIdx.x] = 0.0f;
    if constexpr (kGradient)
      for (int64_t c = threadIdx.x * V; c < vocabulary; c += kStep) store<V>(row + c, Pack<T, V>{});
    return;
  }
  const float of_target = to_f32(row[target]);
  Running running;
#pragma unroll 4
  for (int64_t c = threadIdx.x * V; c < vocabulary; c += kStep) {
    const auto x = load<V>(row + c);
    float values[V];
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = to_f32(x.values[i]);
    running.add(values);
    if constexpr (kGradient)
      if (c < kept) store<V>(kept_row + c, x);  // each thread reads what it wrote
  }
  const float lse = block_log_sum(running);  // waits for all: of_target was read before anything is written
  if (threadIdx.x == 0) loss[blockIdx.x] = lse - of_target;
  if constexpr (kGradient) {
    const float factor = scale != nullptr ? *scale : 1.0f;
#pragma unroll 4
    for (int64_t c = threadIdx.x * V; c < vocabulary; c += kStep) {
      auto x = c < kept ? load<V>(kept_row + c) : load<V>(row + c);
#pragma unroll
      for (int i = 0; i < V; ++i)
        x.values[i] =
            from_f32<T>((probability<T>(to_f32(x.values[i]), lse) - (c + i == target ? 1.0f : 0.0f)) * factor);
      store<V>(row + c, x);
    }
  }
}

/// Bytes that a block can have beside its own static ones.
int64_t most_shared_memory() {
  constexpr int kStatic = kWarp * static_cast<int>(sizeof(Running));
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return std::max(0, bytes - kStatic);
}

template <bool kGradient, class T>
void launch(const char* kernel, T* logits, int64_t stride, int64_t rows, int64_t vocabulary, const int32_t* targets,
            const float* scale, float* loss, Stream stream) {
  if (rows == 0) return;
  constexpr int kPack = 16 / sizeof(T);
  const auto run = [&]<int V>() {
    int64_t kept = 0;
    if constexpr (kGradient) {
      kept = std::min(vocabulary, most_shared_memory() / static_cast<int64_t>(sizeof(T)) / V * V);
      allow_memory(kernel, rows_of<T, V, kGradient>, static_cast<int>(kept * sizeof(T)));
    }
    rows_of<T, V, kGradient><<<static_cast<unsigned>(rows), kThreads, kept * sizeof(T), stream>>>(
        logits, stride, vocabulary, kept, targets, scale, loss);
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
