// Dropout by counter: a thread makes the 128 bits of eight channels, and uses them.
#include "slmi/kernels/cuda/dropout.h"

#include "device.cuh"
#include "launch.h"
#include "slmi/kernels/cpu/dropout.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 256, kChannels = 8;

/// One step of base/random.h's splitmix64.
__device__ uint64_t splitmix64(uint64_t& state) {
  state += 0x9E3779B97F4A7C15u;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

struct Words {
  uint32_t w[4];
};

/// base/random.h's philox4x32.
__device__ Words philox(Words c, uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c.w[0]), low0 = 0xD2511F53u * c.w[0];
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c.w[2]), low1 = 0xCD9E8D57u * c.w[2];
    c = {{high1 ^ c.w[1] ^ key0, low1, high0 ^ c.w[3] ^ key1, low0}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

template <class T>
struct Apply {
  const T* x;
  int64_t x_stride;
  DropoutKey key;
  const uint64_t* row_keys;
  const int32_t* positions;
  int64_t count, width;  // of eights of channels; of channels
  uint32_t eights;       // in a row
  uint32_t threshold;
  float scale;
  T* out;
  int64_t out_stride;
};

template <class T, bool kWhole>
__global__ void apply(Apply<T> a) {
  __shared__ uint64_t mixed;
  if (threadIdx.x == 0) {
    uint64_t state = a.key.seed;
    state = splitmix64(state) ^ static_cast<uint64_t>(*a.key.step);
    state = splitmix64(state) ^ a.key.site;
    mixed = splitmix64(state);
  }
  __syncthreads();
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= a.count) return;
  const int64_t row = item / a.eights;
  const auto eight = static_cast<uint32_t>(item % a.eights);
  const uint64_t row_key = a.row_keys[row];
  const Words bits = philox({{eight, static_cast<uint32_t>(a.positions[row]), static_cast<uint32_t>(row_key),
                              static_cast<uint32_t>(row_key >> 32)}},
                            static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32));
  const int64_t c0 = static_cast<int64_t>(eight) * kChannels;
  const T* from = a.x + row * a.x_stride + c0;
  T* to = a.out + row * a.out_stride + c0;
  const auto kept = [&](int i, T value) {
    const uint32_t draw = i % 2 == 0 ? bits.w[i / 2] & 0xffffu : bits.w[i / 2] >> 16;
    return from_f32<T>(draw >= a.threshold ? to_f32(value) * a.scale : 0.0f);
  };
  if constexpr (kWhole) {
    constexpr int kPack = 16 / sizeof(T);
#pragma unroll
    for (int p = 0; p < kChannels; p += kPack) {
      auto values = load<kPack>(from + p);
#pragma unroll
      for (int i = 0; i < kPack; ++i) values.values[i] = kept(p + i, values.values[i]);
      store<kPack>(to + p, values);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kChannels; ++i)
      if (c0 + i < a.width) to[i] = kept(i, from[i]);
  }
}

}  // namespace

template <class T>
void apply_dropout(const T* x, int64_t x_stride, const DropoutKey& key, const uint64_t* row_keys,
                   const int32_t* positions, int64_t rows, int64_t width, T* out, int64_t out_stride, Stream stream) {
  const int64_t eights = ceil_div(width, kChannels), count = rows * eights;
  if (count == 0) return;
  const uint32_t threshold = cpu::dropout_threshold(key.probability);
  const Apply<T> args = {x,         x_stride,
                         key,       row_keys,
                         positions, count,
                         width,     static_cast<uint32_t>(eights),
                         threshold, static_cast<float>(65536.0 / (65536.0 - threshold)),
                         out,       out_stride};
  constexpr int kPack = 16 / sizeof(T);
  const bool whole = width % kChannels == 0 && packs<T, kPack>(x, x_stride, 0) && packs<T, kPack>(out, out_stride, 0);
  const auto blocks = static_cast<unsigned>(ceil_div(count, kThreads));
  whole ? apply<T, true><<<blocks, kThreads, 0, stream>>>(args)
        : apply<T, false><<<blocks, kThreads, 0, stream>>>(args);
  check_launch("apply_dropout");
}

#define SLMI_FOR(T)                                                                                                    \
  template void apply_dropout(const T*, int64_t, const DropoutKey&, const uint64_t*, const int32_t*, int64_t, int64_t, \
                              T*, int64_t, Stream);
SLMI_FOR(float)
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
