// Steps and codes of GGUF blocks; the layouts are those of kernels/gguf_blocks.h.
#include "slmi/quant/code_grid.h"

#include <cstring>

#include "block_quantizers.h"
#include "k_packing.h"
#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "small_packing.h"

namespace slmi::quant {
namespace {

using namespace kernels;  // NOLINT: the blocks

/// Calls body(block of `format`'s type), a null pointer of it.
template <class Body>
void with_block(WeightFormat format, const Body& body) {
  switch (format) {
    case WeightFormat::Q4_0:
      return body(static_cast<BlockQ4_0*>(nullptr));
    case WeightFormat::Q4_1:
      return body(static_cast<BlockQ4_1*>(nullptr));
    case WeightFormat::Q5_0:
      return body(static_cast<BlockQ5_0*>(nullptr));
    case WeightFormat::Q5_1:
      return body(static_cast<BlockQ5_1*>(nullptr));
    case WeightFormat::Q8_0:
      return body(static_cast<BlockQ8_0*>(nullptr));
    case WeightFormat::Q2_K:
      return body(static_cast<BlockQ2_K*>(nullptr));
    case WeightFormat::Q3_K:
      return body(static_cast<BlockQ3_K*>(nullptr));
    case WeightFormat::Q4_K:
      return body(static_cast<BlockQ4_K*>(nullptr));
    case WeightFormat::Q5_K:
      return body(static_cast<BlockQ5_K*>(nullptr));
    case WeightFormat::Q6_K:
      return body(static_cast<BlockQ6_K*>(nullptr));
    default:
      fail(ErrorKind::Internal, "{}: no grid of codes", name(format));
  }
}

template <class Block>
void read_steps(const Block& b, float* steps, float* bases) {
  *steps = f16_to_f32(b.d);
  if constexpr (requires { b.m; }) *bases = f16_to_f32(b.m);
}
void read_steps(const BlockQ2_K& b, float* steps, float* bases) {
  for (int j = 0; j < 16; ++j) {
    steps[j] = f16_to_f32(b.d) * static_cast<float>(b.scales[j] & 15);
    bases[j] = -(f16_to_f32(b.dmin) * static_cast<float>(b.scales[j] >> 4));
  }
}
void read_steps(const BlockQ3_K& b, float* steps, float*) {
  for (int j = 0; j < 16; ++j) steps[j] = f16_to_f32(b.d) * static_cast<float>(scale_q3_k(b.scales, j));
}
template <class Block>
void read_k4_steps(const Block& b, float* steps, float* bases) {
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min_k4(b.scales, j);
    steps[j] = f16_to_f32(b.d) * static_cast<float>(s.scale);
    bases[j] = -(f16_to_f32(b.dmin) * static_cast<float>(s.min));
  }
}
void read_steps(const BlockQ4_K& b, float* steps, float* bases) {
  read_k4_steps(b, steps, bases);
}
void read_steps(const BlockQ5_K& b, float* steps, float* bases) {
  read_k4_steps(b, steps, bases);
}
void read_steps(const BlockQ6_K& b, float* steps, float*) {
  for (int j = 0; j < 16; ++j) steps[j] = f16_to_f32(b.d) * static_cast<float>(b.scales[j]);
}

}  // namespace

std::optional<CodeGrid> code_grid(WeightFormat format) {
  switch (format) {
    case WeightFormat::Q4_0:
      return CodeGrid{kSmallBlock, kSmallBlock, 8, 15, false};
    case WeightFormat::Q4_1:
      return CodeGrid{kSmallBlock, kSmallBlock, 0, 15, true};
    case WeightFormat::Q5_0:
      return CodeGrid{kSmallBlock, kSmallBlock, 16, 31, false};
    case WeightFormat::Q5_1:
      return CodeGrid{kSmallBlock, kSmallBlock, 0, 31, true};
    case WeightFormat::Q8_0:
      return CodeGrid{kSmallBlock, kSmallBlock, 128, 255, false};
    case WeightFormat::Q2_K:
      return CodeGrid{kSuperBlock, 16, 0, 3, true};
    case WeightFormat::Q3_K:
      return CodeGrid{kSuperBlock, 16, 4, 7, false};
    case WeightFormat::Q4_K:
      return CodeGrid{kSuperBlock, 32, 0, 15, true};
    case WeightFormat::Q5_K:
      return CodeGrid{kSuperBlock, 32, 0, 31, true};
    case WeightFormat::Q6_K:
      return CodeGrid{kSuperBlock, 16, 32, 63, false};
    default:
      return std::nullopt;
  }
}

void quantize_blocks(WeightFormat format, const float* x, const float* importance, int64_t count, std::byte* out) {
  const auto level = kernels::cpu::simd().level;
  if (const QuantizeRow small = small_blocks_quantizer(format); small != nullptr)
    return small(x, importance, out, count * kSmallBlock, level);
  const QuantizeRow super = k_block_quantizer(format);
  require(super != nullptr, ErrorKind::Internal, "{}: no grid of codes", name(format));
  super(x, importance, out, count * kSuperBlock, level);
}

void read_grid(WeightFormat format, const std::byte* block, float* steps, float* bases) {
  with_block(format, [&]<class Block>(Block*) {
    Block b;
    std::memcpy(&b, block, sizeof(b));
    read_steps(b, steps, bases);
  });
}

void store_codes(WeightFormat format, const uint8_t* codes, std::byte* block) {
  with_block(format, [&]<class Block>(Block*) {
    Block b;
    std::memcpy(&b, block, sizeof(b));
    pack_codes(codes, b);
    std::memcpy(block, &b, sizeof(b));
  });
}

}  // namespace slmi::quant
