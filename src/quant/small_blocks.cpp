// Quantizers of the 32-weight blocks: ggml's reference rules, and with importances its weighted searches.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "block_quantizers.h"
#include "slmi/base/half.h"
#include "slmi/kernels/cpu/block_search.h"
#include "slmi/kernels/gguf_blocks.h"

namespace slmi::quant {

using kernels::BlockQ4_0;
using kernels::BlockQ4_1;
using kernels::BlockQ5_0;
using kernels::BlockQ5_1;
using kernels::BlockQ8_0;
using kernels::kSmallBlock;
using kernels::cpu::AffineFit;
using kernels::cpu::kMaxSubBlocks;
using kernels::cpu::SimdLevel;
using kernels::cpu::SubBlocks;
using kernels::cpu::SymmetricFit;

namespace {

using Codes = std::array<uint8_t, kSmallBlock>;

/// Nibbles of 32 codes, and where the format has them the fifth bits, in the order of gguf_blocks.h.
void pack_nibbles(const Codes& q, uint8_t* qs) {
  for (size_t j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] << 4));
}
void pack_fifth_bits(const Codes& q, uint8_t* qh) {
  for (size_t j = 0; j < 4; ++j) {
    unsigned bits = 0;
    for (size_t i = 0; i < 8; ++i) bits |= static_cast<unsigned>(q[8 * j + i] >> 4) << i;
    qh[j] = static_cast<uint8_t>(bits);
  }
}

/// What a block needs to know: how many codes, and which fields.
template <class Block>
struct Traits;
template <>
struct Traits<BlockQ4_0> {
  static constexpr int kLevels = 8;
};
template <>
struct Traits<BlockQ5_0> {
  static constexpr int kLevels = 16;
};
template <>
struct Traits<BlockQ4_1> {
  static constexpr int kMaxCode = 15;
};
template <>
struct Traits<BlockQ5_1> {
  static constexpr int kMaxCode = 31;
};

template <class Block>
void store_block(const Codes& q, float d, Block& b) {
  b.d = f32_to_f16(d);
  if constexpr (requires { b.qh; }) pack_fifth_bits(q, b.qh);
  pack_nibbles(q, b.qs);
}

float reciprocal(float d) {
  return d != 0.0f ? 1.0f / d : 0.0f;
}

uint8_t clamp_code(float value, int max) {
  const int code = static_cast<int>(value);
  return static_cast<uint8_t>(code < 0 ? 0 : code > max ? max : code);
}

// ---- without importances

/// Symmetric codes around kLevels: the scale is the signed value of largest magnitude (the first of equals) over
/// -kLevels, so that this value is met exactly.
template <class Block>
requires requires {
  Traits<Block>::kLevels;
}
void quantize_block(const float* x, Block& b) {
  constexpr int kLevels = Traits<Block>::kLevels;
  float largest = 0.0f;
  for (int i = 0; i < kSmallBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  const float d = largest / static_cast<float>(-kLevels);
  const float id = reciprocal(d);
  const float half = static_cast<float>(kLevels) + 0.5f;
  Codes q;
  for (size_t i = 0; i < q.size(); ++i) q[i] = clamp_code(x[i] * id + half, 2 * kLevels - 1);
  store_block(q, d, b);
}

/// Codes 0..kMaxCode between the block's smallest and largest value.
template <class Block>
requires requires {
  Traits<Block>::kMaxCode;
}
void quantize_block(const float* x, Block& b) {
  constexpr int kMaxCode = Traits<Block>::kMaxCode;
  float low = x[0];
  float high = x[0];
  for (int i = 1; i < kSmallBlock; ++i) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
  }
  const float d = (high - low) / static_cast<float>(kMaxCode);
  const float id = reciprocal(d);
  Codes q;
  for (size_t i = 0; i < q.size(); ++i) q[i] = clamp_code((x[i] - low) * id + 0.5f, kMaxCode);
  store_block(q, d, b);
  b.m = f32_to_f16(low);
}

/// std::round for |x| < 128, as a sum and a cut that compilers make vectors of: with the number before 0.5 the sum is
/// rounded up to the next integer from the half on, and not before.
int8_t round_away(float x) {
  return static_cast<int8_t>(x + std::copysign(0x1.fffffep-2f, x));
}

void quantize_block(const float* x, BlockQ8_0& b) {
  float largest = 0.0f;
  for (int i = 0; i < kSmallBlock; ++i) largest = std::fmax(largest, std::fabs(x[i]));
  const float d = largest / 127.0f;
  const float id = reciprocal(d);
  b.d = f32_to_f16(d);
  for (int i = 0; i < kSmallBlock; ++i) b.qs[i] = round_away(x[i] * id);
}

// ---- with importances

/// Blocks [0, in.count): d of each, the codes of its fit.
template <class Block>
requires requires {
  Traits<Block>::kLevels;
}
void quantize_blocks(const SubBlocks& in, Block* out, SimdLevel level) {
  constexpr int kLevels = Traits<Block>::kLevels;
  SymmetricFit fit;
  symmetric_search(in, kLevels, fit, level);
  for (int64_t j = 0; j < in.count; ++j) {
    const float* x = in.x + j * kSmallBlock;
    Codes q{};  // a block of zeros keeps code 0, as ggml's
    for (size_t i = 0; i < q.size() && fit.code_scale[j] != 0.0f; ++i) {
      q[i] = nearest_code(fit.code_scale[j] * x[i], -kLevels, kLevels - 1);
    }
    store_block(q, fit.scale[j], out[j]);
  }
}

template <class Block>
requires requires {
  Traits<Block>::kMaxCode;
}
void quantize_blocks(const SubBlocks& in, Block* out, SimdLevel level) {
  constexpr int kMaxCode = Traits<Block>::kMaxCode;
  AffineFit fit;
  affine_search(in, {.max_code = kMaxCode, .first = -0.9f, .step = 0.05f, .last = 36}, fit, level);
  for (int64_t j = 0; j < in.count; ++j) {
    const float* x = in.x + j * kSmallBlock;
    Codes q;
    for (size_t i = 0; i < q.size(); ++i) {
      q[i] = nearest_code(fit.code_scale[j] * (x[i] - fit.code_base[j]), 0.0f, kMaxCode);
    }
    store_block(q, fit.scale[j], out[j]);
    out[j].m = f32_to_f16(-fit.minimum[j]);
  }
}

/// Mean of x^2, in element order: it is part of the bits.
float mean_square(const float* x, int64_t k) {
  float sum = 0.0f;
  for (int64_t i = 0; i < k; ++i) sum += x[i] * x[i];
  return sum / static_cast<float>(k);
}

template <class Block>
void quantize_weighted_row(const float* x, const float* importance, std::byte* out, int64_t k, SimdLevel level) {
  const float mean = mean_square(x, k);
  std::array<float, kMaxSubBlocks> sigma2;
  sigma2.fill(mean);
  const int64_t num_blocks = k / kSmallBlock;
  for (int64_t first = 0; first < num_blocks; first += kMaxSubBlocks) {
    const SubBlocks in{.x = x + first * kSmallBlock,
                       .importance = importance + first * kSmallBlock,
                       .sigma2 = sigma2.data(),
                       .count = std::min(kMaxSubBlocks, num_blocks - first),
                       .size = kSmallBlock,
                       .weighting = kernels::cpu::Weighting::ImportanceAndSize};
    std::array<Block, kMaxSubBlocks> blocks;
    quantize_blocks(in, blocks.data(), level);
    std::memcpy(out + first * static_cast<int64_t>(sizeof(Block)), blocks.data(),
                static_cast<size_t>(in.count) * sizeof(Block));
  }
}

template <class Block>
void quantize_row(const float* x, const float* importance, std::byte* out, int64_t k, SimdLevel level) {
  if constexpr (!std::is_same_v<Block, BlockQ8_0>) {  // Q8_0 is fine enough without a search
    if (importance != nullptr) return quantize_weighted_row<Block>(x, importance, out, k, level);
  }
  for (int64_t i = 0; i < k; i += kSmallBlock) {
    Block b;
    quantize_block(x + i, b);
    std::memcpy(out, &b, sizeof(b));
    out += sizeof(b);
  }
}

}  // namespace

QuantizeRow small_block_quantizer(WeightFormat format) {
  switch (format) {
    case WeightFormat::Q4_0:
      return quantize_row<BlockQ4_0>;
    case WeightFormat::Q4_1:
      return quantize_row<BlockQ4_1>;
    case WeightFormat::Q5_0:
      return quantize_row<BlockQ5_0>;
    case WeightFormat::Q5_1:
      return quantize_row<BlockQ5_1>;
    case WeightFormat::Q8_0:
      return quantize_row<BlockQ8_0>;
    default:
      return nullptr;
  }
}

}  // namespace slmi::quant
