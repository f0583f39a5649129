// NF4 to numbers: a thread turns eight codes into eight values.
#include "slmi/kernels/cuda/nf4.h"

#include <algorithm>

#include "device.cuh"
#include "launch.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 256;
constexpr int kCodes = 8;  // of a thread: four bytes in, sixteen out in 16 bits

struct Codebook {
  float values[16];
};

struct Scales {
  const float* absmax;  // or null, then:
  const uint8_t* codes;
  const float* absmax2;
  const float* map;
  float offset;

  __device__ float of(int64_t block) const {
    if (absmax != nullptr) return absmax[block];
    return __fadd_rn(__fmul_rn(map[codes[block]], absmax2[block / kNf4NestedBlock]), offset);
  }
};

__device__ inline uint32_t code_of(uint32_t byte, int64_t value) {
  return (value % 2 == 0 ? byte >> 4 : byte) & 15;
}

/// Groups of eight values: each in one row, in one block of 64, and in whole bytes.
template <class T, int V>
__global__ void by_eights(const uint8_t* codes, Scales scales, Codebook book, uint32_t groups_a_row, uint32_t groups,
                          T* out, int64_t out_stride) {
  __shared__ float value_of[16];
  if (threadIdx.x < 16) value_of[threadIdx.x] = book.values[threadIdx.x];
  __syncthreads();
  const uint32_t group = blockIdx.x * kThreads + threadIdx.x;
  if (group >= groups) return;
  const uint32_t bytes = reinterpret_cast<const uint32_t*>(codes)[group];
  const float scale = scales.of(group / (kNf4Block / kCodes));
  T* row = out + static_cast<int64_t>(group / groups_a_row) * out_stride + (group % groups_a_row) * kCodes;
#pragma unroll
  for (int i = 0; i < kCodes; i += V) {
    Pack<T, V> pack;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const uint32_t byte = bytes >> (8 * ((i + j) / 2));
      pack.values[j] = from_f32<T>(__fmul_rn(value_of[code_of(byte, i + j)], scale));
    }
    store<V>(row + i, pack);
  }
}

/// Any shape: a thread a value.
template <class T>
__global__ void one_by_one(const uint8_t* codes, Scales scales, Codebook book, int64_t k, int64_t count, T* out,
                           int64_t out_stride) {
  __shared__ float value_of[16];
  if (threadIdx.x < 16) value_of[threadIdx.x] = book.values[threadIdx.x];
  __syncthreads();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  out[i / k * out_stride + i % k] =
      from_f32<T>(__fmul_rn(value_of[code_of(codes[i / 2], i)], scales.of(i / kNf4Block)));
}

}  // namespace

template <class T>
void nf4_dequantize(const Nf4View& matrix, const float* map, T* out, int64_t out_stride, Stream stream) {
  const int64_t count = matrix.n * matrix.k;
  if (count == 0) return;
  const Scales scales = {matrix.absmax, matrix.absmax_codes, matrix.absmax2, map, matrix.offset};
  Codebook book;
  std::ranges::copy(kNf4Code, book.values);
  constexpr int kPack = 16 / sizeof(T);
  const bool whole = matrix.k % kCodes == 0 && count / kCodes <= UINT32_MAX && packs<uint8_t, 4>(matrix.codes, 0, 0);
  if (whole && packs<T, kPack>(out, out_stride, 0)) {
    const auto groups = static_cast<uint32_t>(count / kCodes);
    by_eights<T, kPack><<<static_cast<unsigned>(ceil_div(groups, kThreads)), kThreads, 0, stream>>>(
        matrix.codes, scales, book, static_cast<uint32_t>(matrix.k / kCodes), groups, out, out_stride);
  } else {
    one_by_one<<<static_cast<unsigned>(ceil_div(count, kThreads)), kThreads, 0, stream>>>(
        matrix.codes, scales, book, matrix.k, count, out, out_stride);
  }
  check_launch("nf4_dequantize");
}

template void nf4_dequantize(const Nf4View&, const float*, float*, int64_t, Stream);
template void nf4_dequantize(const Nf4View&, const float*, Bf16*, int64_t, Stream);
template void nf4_dequantize(const Nf4View&, const float*, F16*, int64_t, Stream);

}  // namespace slmi::kernels::cuda
