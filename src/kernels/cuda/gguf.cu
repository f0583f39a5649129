// GGUF blocks to numbers: a thread makes eight values, which are 16 bytes in 16 bits. They lie in one sub-block, so
// they share scale and minimum, and their codes are eight neighbouring bytes of the block, or parts of them. The
// threads of a block are in one warp: what several of them read is fetched once.
#include "slmi/kernels/cuda/gguf.h"

#include "device.cuh"
#include "launch.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kThreads = 256;
constexpr int kEight = 8;
constexpr uint64_t kEachByte = 0x0101010101010101;

enum class Offset { None, Added };
/// Eight weights: value i = scale * (byte i of codes - kBias), + offset where the format has one.
template <int kBias, Offset kOffset = Offset::None>
struct Eight {
  uint64_t codes;
  float scale, offset = 0.0f;

  __device__ float value(int i) const {
    const float product = __fmul_rn(scale, static_cast<float>(static_cast<int>((codes >> (8 * i)) & 255) - kBias));
    return kOffset == Offset::Added ? __fadd_rn(product, offset) : product;
  }
};

/// Eight bytes of a block, byte i in bits 8i. Blocks are as far apart as they are long, so their size says where they
/// may start; the wide formats keep their codes at multiples of that.
template <class Block>
__device__ inline uint64_t eight_bytes(const uint8_t* p) {
  if constexpr (sizeof(Block) % 8 == 0) {
    return *reinterpret_cast<const uint64_t*>(p);
  } else if constexpr (sizeof(Block) % 4 == 0) {
    const auto* words = reinterpret_cast<const uint32_t*>(p);
    return words[0] | static_cast<uint64_t>(words[1]) << 32;
  } else {
    const auto* halves = reinterpret_cast<const uint16_t*>(p);
    const uint32_t low = halves[0] | static_cast<uint32_t>(halves[1]) << 16,
                   high = halves[2] | static_cast<uint32_t>(halves[3]) << 16;
    return low | static_cast<uint64_t>(high) << 32;
  }
}

__device__ inline float f16(uint16_t bits) {
  return to_f32(F16{bits});
}

/// Codes 8g .. 8g + 7 of a 32-weight block, four bits each.
template <class Block>
__device__ inline uint64_t nibbles(const Block& b, int g) {
  return (eight_bytes<Block>(b.qs + g % 2 * kEight) >> (g / 2 * 4)) & (15 * kEachByte);
}

/// Their fifth bits, each as 0 or 16.
__device__ inline uint64_t fifth_bits(const uint8_t* qh, int g) {
  const uint64_t bits = qh[g];
  uint64_t out = 0;
#pragma unroll
  for (int i = 0; i < kEight; ++i) out |= ((bits >> i) & 1) << (8 * i + 4);
  return out;
}

/// Codes 8g .. 8g + 7 of a K block's qs: two bits each, 128 in 32 bytes; or four, 64 in 32 bytes.
template <class Block>
__device__ inline uint64_t two_bits(const uint8_t* qs, int g) {
  return (eight_bytes<Block>(qs + g / 16 * 32 + g % 4 * kEight) >> (2 * (g % 16 / 4))) & (3 * kEachByte);
}
template <class Block>
__device__ inline uint64_t four_bits(const uint8_t* qs, int g) {
  return (eight_bytes<Block>(qs + g / 8 * 32 + g % 4 * kEight) >> (4 * (g % 8 / 4))) & (15 * kEachByte);
}
/// Bit g / 4 of the bytes that belong to them: a plane of 32 bytes has one bit of every code.
template <class Block>
__device__ inline uint64_t one_bit(const uint8_t* plane, int g) {
  return (eight_bytes<Block>(plane + g % 4 * kEight) >> (g / 4)) & kEachByte;
}

// eight(block, g): weights 8g .. 8g + 7.

__device__ inline auto eight(const BlockQ4_0& b, int g) {
  return Eight<8>{nibbles(b, g), f16(b.d)};
}

__device__ inline auto eight(const BlockQ4_1& b, int g) {
  return Eight<0, Offset::Added>{nibbles(b, g), f16(b.d), f16(b.m)};
}

__device__ inline auto eight(const BlockQ5_0& b, int g) {
  return Eight<16>{nibbles(b, g) | fifth_bits(b.qh, g), f16(b.d)};
}

__device__ inline auto eight(const BlockQ5_1& b, int g) {
  return Eight<0, Offset::Added>{nibbles(b, g) | fifth_bits(b.qh, g), f16(b.d), f16(b.m)};
}

__device__ inline auto eight(const BlockQ8_0& b, int g) {
  const uint64_t bytes = eight_bytes<BlockQ8_0>(reinterpret_cast<const uint8_t*>(b.qs) + g * kEight);
  return Eight<128>{bytes ^ (128 * kEachByte), f16(b.d)};  // signed ones, 128 higher
}

__device__ inline auto eight(const BlockQ2_K& b, int g) {
  const uint32_t scales = b.scales[g / 2];
  const float min = __fmul_rn(f16(b.dmin), static_cast<float>(scales >> 4));
  return Eight<0, Offset::Added>{two_bits<BlockQ2_K>(b.qs, g), __fmul_rn(f16(b.d), static_cast<float>(scales & 15)),
                                 -min};
}

__device__ inline auto eight(const BlockQ3_K& b, int g) {
  const uint64_t codes = two_bits<BlockQ3_K>(b.qs, g) | one_bit<BlockQ3_K>(b.hmask, g) << 2;
  return Eight<4>{codes, __fmul_rn(f16(b.d), static_cast<float>(scale_q3_k(b.scales, g / 2)))};
}

template <class Block>
__device__ inline auto eight_of_k4(const Block& b, uint64_t codes, int g) {
  const ScaleMin s = scale_min_k4(b.scales, g / 4);
  const float min = __fmul_rn(f16(b.dmin), static_cast<float>(s.min));
  return Eight<0, Offset::Added>{codes, __fmul_rn(f16(b.d), static_cast<float>(s.scale)), -min};
}

__device__ inline auto eight(const BlockQ4_K& b, int g) {
  return eight_of_k4(b, four_bits<BlockQ4_K>(b.qs, g), g);
}

__device__ inline auto eight(const BlockQ5_K& b, int g) {
  return eight_of_k4(b, four_bits<BlockQ5_K>(b.qs, g) | one_bit<BlockQ5_K>(b.qh, g) << 4, g);
}

__device__ inline auto eight(const BlockQ6_K& b, int g) {
  const uint64_t low = eight_bytes<BlockQ6_K>(b.ql + g / 16 * 64 + g % 8 * kEight) >> (4 * (g % 16 / 8));
  const uint64_t codes = (low & (15 * kEachByte)) | two_bits<BlockQ6_K>(b.qh, g) << 4;
  return Eight<32>{codes, __fmul_rn(f16(b.d), static_cast<float>(b.scales[g / 2]))};
}

/// Row r of out is row r of the matrix, or row ids[r]. A row holds whole blocks, a block whole groups of eight.
template <class Block, int kWeights, class T>
__global__ void by_eights(const Block* blocks, const int32_t* ids, int64_t n, uint32_t groups_a_row, uint32_t groups,
                          T* out, int64_t out_stride, bool wide) {
  constexpr int kGroups = kWeights / kEight, kPack = 16 / sizeof(T);
  const uint32_t group = blockIdx.x * kThreads + threadIdx.x;
  if (group >= groups) return;
  const uint32_t row = group / groups_a_row, in_row = group % groups_a_row;
  const int64_t from = ids == nullptr ? row : ids[row];
  const bool inside = from >= 0 && from < n;
  const Block& block = blocks[(inside ? from : 0) * (groups_a_row / kGroups) + in_row / kGroups];
  const auto weights = eight(block, static_cast<int>(in_row % kGroups));
  T* to = out + static_cast<int64_t>(row) * out_stride + in_row * kEight;
#pragma unroll
  for (int i = 0; i < kEight; i += kPack) {
    Pack<T, kPack> pack;
#pragma unroll
    for (int j = 0; j < kPack; ++j)
      pack.values[j] = from_f32<T>(inside ? weights.value(i + j) : __uint_as_float(0x7fffffff));
    if (wide) {
      store<kPack>(to + i, pack);
    } else {
#pragma unroll
      for (int j = 0; j < kPack; ++j) to[i + j] = pack.values[j];
    }
  }
}

template <class Block, int kWeights, class T>
void launch(const BlockView& m, const int32_t* ids, int64_t rows, T* out, int64_t out_stride, Stream stream) {
  const int64_t groups = rows * (m.k / kEight);
  if (groups > UINT32_MAX) refuse("gguf_dequantize", "more than 2^35 values");
  by_eights<Block, kWeights><<<static_cast<unsigned>(ceil_div(groups, kThreads)), kThreads, 0, stream>>>(
      reinterpret_cast<const Block*>(m.blocks), ids, m.n, static_cast<uint32_t>(m.k / kEight),
      static_cast<uint32_t>(groups), out, out_stride, packs<T, 16 / sizeof(T)>(out, out_stride, 0));
  check_launch("gguf_dequantize");
}

template <class T>
void dequantize(const BlockView& m, const int32_t* ids, int64_t rows, T* out, int64_t out_stride, Stream stream) {
  if (rows == 0 || m.k == 0) return;
  if (!packs<uint8_t, 8>(m.blocks, 0, 0)) refuse("gguf_dequantize", "blocks that are not at a multiple of 8 bytes");
  constexpr int kSmall = kSmallBlock, kSuper = kSuperBlock;
  switch (m.format) {
    case BlockFormat::Q4_0:
      return launch<BlockQ4_0, kSmall>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q4_1:
      return launch<BlockQ4_1, kSmall>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q5_0:
      return launch<BlockQ5_0, kSmall>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q5_1:
      return launch<BlockQ5_1, kSmall>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q8_0:
      return launch<BlockQ8_0, kSmall>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q2_K:
      return launch<BlockQ2_K, kSuper>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q3_K:
      return launch<BlockQ3_K, kSuper>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q4_K:
      return launch<BlockQ4_K, kSuper>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q5_K:
      return launch<BlockQ5_K, kSuper>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::Q6_K:
      return launch<BlockQ6_K, kSuper>(m, ids, rows, out, out_stride, stream);
    case BlockFormat::F32:
    case BlockFormat::F16:
    case BlockFormat::BF16:
      break;
  }
  refuse("gguf_dequantize", "a format without blocks");
}

}  // namespace

template <class T>
void gguf_dequantize(const BlockView& matrix, T* out, int64_t out_stride, Stream stream) {
  dequantize(matrix, nullptr, matrix.n, out, out_stride, stream);
}

template <class T>
void gguf_rows(const BlockView& matrix, const int32_t* ids, int64_t count, T* out, int64_t out_stride, Stream stream) {
  dequantize(matrix, ids, count, out, out_stride, stream);
}

template void gguf_dequantize(const BlockView&, float*, int64_t, Stream);
template void gguf_dequantize(const BlockView&, Bf16*, int64_t, Stream);
template void gguf_dequantize(const BlockView&, F16*, int64_t, Stream);
template void gguf_rows(const BlockView&, const int32_t*, int64_t, float*, int64_t, Stream);
template void gguf_rows(const BlockView&, const int32_t*, int64_t, Bf16*, int64_t, Stream);
template void gguf_rows(const BlockView&, const int32_t*, int64_t, F16*, int64_t, Stream);

}  // namespace slmi::kernels::cuda
