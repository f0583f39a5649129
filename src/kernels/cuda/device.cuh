// Element types on the device, packs of them, and sums over a block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "launch.h"
#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda::detail {

__device__ inline float to_f32(float x) {
  return x;
}
__device__ inline float to_f32(Bf16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
__device__ inline float to_f32(F16 x) {
  return __half2float(__ushort_as_half(x.bits));
}

template <class T>
__device__ inline T from_f32(float x);
template <>
__device__ inline float from_f32<float>(float x) {
  return x;
}
template <>
__device__ inline Bf16 from_f32<Bf16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
template <>
__device__ inline F16 from_f32<F16>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}

/// V elements that are loaded and stored at once.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T values[V];
};

template <int V, class T>
__device__ inline Pack<T, V> load(const T* p) {
  return *reinterpret_cast<const Pack<T, V>*>(p);
}
template <int V, class T>
__device__ inline void store(T* p, const Pack<T, V>& x) {
  *reinterpret_cast<Pack<T, V>*>(p) = x;
}

/// Whether rows of T may be read in packs of V: their starts and their width are multiples of it.
template <class T, int V>
bool packs(const T* p, int64_t stride, int64_t width) {
  return reinterpret_cast<uintptr_t>(p) % (sizeof(T) * V) == 0 && stride % V == 0 && width % V == 0;
}

/// More shared memory than every card gives a kernel unasked: asked for at each launch, which is cheap.
template <class Kernel>
void allow_memory(const char* what, Kernel kernel, int bytes) {
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess)
    check_launch(what);
}

/// Bytes of shared memory that a block can have on the current card, when asked for.
inline int most_shared_memory(const char* what) {
  int device = 0, most = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess)
    check_launch(what);
  return most;
}

constexpr int kWarp = 32;
constexpr float kLog2E = 1.44269504088896341f;

/// 2^x within 2 ulp, in one instruction; 0 below 2^-126.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float warp_sum(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

/// The sum over all threads of the block, in an order that depends on their number alone; every thread gets it. The
/// block's size is a multiple of a warp, at most 1024.
__device__ inline float block_sum(float x) {
  __shared__ float sums[kWarp];
  x = warp_sum(x);
  __syncthreads();  // who still reads the last sum
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = x;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  return warp_sum(lane < warps ? sums[lane] : 0.0f);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace slmi::kernels::cuda::detail
