// Numbers to NF4 and back: a thread has eight values, their codes are four bytes.
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

struct Borders {
  float values[kNf4Borders.size()];
};

__device__ inline uint32_t nearest_code(float scaled, const Borders& borders) {
  uint32_t code = 0;
#pragma unroll
  for (const float border : borders.values) code += scaled > border ? 1 : 0;
  return code;
}

/// As bitsandbytes' kernels take it, which are compiled with --use_fast_math: up to 2 ulp off (CUDA C++ programming
/// guide). The bits of codes depend on it.
__device__ inline float reciprocal_of(float x) {
  float out;
  asm("div.approx.ftz.f32 %0, 0f3F800000, %1;" : "=f"(out) : "f"(x));
  return out;
}

/// Eight threads have a block of 64 values between them. kPacks: all of x is read, and codes written, in packs.
template <class T, bool kPacks>
__global__ void quantize(const T* x, int64_t count, Borders borders, uint8_t* codes, float* absmax) {
  constexpr int kLanes = kNf4Block / kCodes;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kCodes;
  const bool packed = kPacks && first + kCodes <= count;
  float values[kCodes];
  if (packed) {
    constexpr int kPack = 16 / sizeof(T);
#pragma unroll
    for (int i = 0; i < kCodes; i += kPack) {
      const auto pack = load<kPack>(x + first + i);
#pragma unroll
      for (int j = 0; j < kPack; ++j) values[i + j] = to_f32(pack.values[j]);
    }
  } else {  // a zero where there is no value: its code fills the last byte
#pragma unroll
    for (int i = 0; i < kCodes; ++i) values[i] = first + i < count ? to_f32(x[first + i]) : 0.0f;
  }
  uint32_t bits = 0;  // magnitudes are ordered like their bits, NaN above all
#pragma unroll
  for (const float value : values) bits = max(bits, __float_as_uint(value) & 0x7fffffffu);
  for (int step = kLanes / 2; step > 0; step /= 2) bits = max(bits, __shfl_xor_sync(0xffffffff, bits, step));
  if (first >= count) return;
  const float largest = __uint_as_float(bits), bounded = largest < kNf4LeastDivisor ? kNf4LeastDivisor : largest;
  if (threadIdx.x % kLanes == 0) absmax[first / kNf4Block] = largest;
  const float reciprocal = reciprocal_of(bounded);
  uint32_t bytes = 0;
#pragma unroll
  for (int i = 0; i < kCodes; ++i) {
    bytes |= nearest_code(__fmul_rn(values[i], reciprocal), borders) << (8 * (i / 2) + (i % 2 == 0 ? 4 : 0));
  }
  uint8_t* to = codes + first / 2;
  if (packed) {
    *reinterpret_cast<uint32_t*>(to) = bytes;
  } else {
    for (int i = 0; i < kCodes && first + i < count; i += 2) to[i / 2] = static_cast<uint8_t>(bytes >> (4 * i));
  }
}

constexpr int kNestedThreads = kNf4NestedBlock;  // one a scale
constexpr int kMapValues = 256;

__global__ void quantize_scales(const float* absmax, int64_t blocks, float offset, const float* map, uint8_t* codes,
                                float* absmax2) {
  __shared__ float borders[kMapValues - 1];
  __shared__ float of_warp[kNestedThreads / kWarp];
  const auto t = static_cast<int>(threadIdx.x);
  if (t < kMapValues - 1) borders[t] = __fmul_rn(0.5f, __fadd_rn(map[t], map[t + 1]));
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kNestedThreads + t;
  const float value = b < blocks ? __fsub_rn(absmax[b], offset) : 0.0f;
  float largest = fabsf(value);
  for (int step = kWarp / 2; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, step));
  if (t % kWarp == 0) of_warp[t / kWarp] = largest;
  __syncthreads();
  for (const float other : of_warp) largest = fmaxf(largest, other);
  if (t == 0) absmax2[blockIdx.x] = largest;
  if (b >= blocks) return;
  int code = 0;  // where all scales are the offset: codes of zero
  if (largest > 0.0f) {
    const float scaled = __fmul_rn(value, reciprocal_of(largest));
#pragma unroll
    for (int step = kMapValues / 2; step > 0; step /= 2)  // how many borders lie below
      if (borders[code + step - 1] < scaled) code += step;
    if (code % 2 == 1 && code < kMapValues - 1 && borders[code] == scaled) ++code;
  }
  codes[b] = static_cast<uint8_t>(code);
}

}  // namespace

template <class T>
void nf4_quantize(const T* x, int64_t count, uint8_t* codes, float* absmax, Stream stream) {
  if (count == 0) return;
  Borders borders;
  std::ranges::copy(kNf4DecimalBorders, borders.values);
  const bool whole = packs<T, 16 / sizeof(T)>(x, 0, 0) && packs<uint8_t, 4>(codes, 0, 0);
  const auto blocks = static_cast<unsigned>(ceil_div(count, kThreads * kCodes));
  whole ? quantize<T, true><<<blocks, kThreads, 0, stream>>>(x, count, borders, codes, absmax)
        : quantize<T, false><<<blocks, kThreads, 0, stream>>>(x, count, borders, codes, absmax);
  check_launch("nf4_quantize");
}

void nf4_quantize_scales(const float* absmax, int64_t blocks, float offset, const float* map, uint8_t* codes,
                         float* absmax2, Stream stream) {
  if (blocks == 0) return;
  quantize_scales<<<static_cast<unsigned>(ceil_div(blocks, kNestedThreads)), kNestedThreads, 0, stream>>>(
      absmax, blocks, offset, map, codes, absmax2);
  check_launch("nf4_quantize_scales");
}

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

#define SLMI_FOR(T)                                                        \
  template void nf4_quantize(const T*, int64_t, uint8_t*, float*, Stream); \
  template void nf4_dequantize(const Nf4View&, const float*, T*, int64_t, Stream);
SLMI_FOR(float)
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
