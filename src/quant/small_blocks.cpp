// Quantizers of the 32-weight blocks: ggml's reference rules, and with importances its weighted searches.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "block_quantizers.h"
#include "slmi/base/half.h"
#include "slmi/kernels/cpu/block_round.h"
#include "slmi/kernels/cpu/block_search.h"
#include "slmi/kernels/gguf_blocks.h"
#include "small_packing.h"

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
concept Affine = requires {
  Traits<Block>::kMaxCode;
};

/// @param q  the 32 codes.
template <class Block>
void store_block(const uint8_t* q, float d, Block& b) {
  b.d = f32_to_f16(d);
  pack_codes(q, b);
}

// ---- without importances

template <class Block>
void quantize_plain_row(const float* x, std::byte* out, int64_t k, SimdLevel level) {
  std::array<float, kMaxSubBlocks> scale;
  [[maybe_unused]] std::array<float, kMaxSubBlocks> base;
  std::array<uint8_t, kMaxSubBlocks * kSmallBlock> codes;
  const int64_t num_blocks = k / kSmallBlock;
  for (int64_t first = 0; first < num_blocks; first += kMaxSubBlocks) {
    const int64_t count = std::min(kMaxSubBlocks, num_blocks - first);
    const float* from = x + first * kSmallBlock;
    if constexpr (Affine<Block>) {
      round_affine_blocks(from, count, Traits<Block>::kMaxCode, scale.data(), base.data(), codes.data(), level);
    } else {
      round_symmetric_blocks(from, count, Traits<Block>::kLevels, scale.data(), codes.data(), level);
    }
    for (int64_t j = 0; j < count; ++j) {
      Block b;
      store_block(codes.data() + j * kSmallBlock, scale[static_cast<size_t>(j)], b);
      if constexpr (Affine<Block>) b.m = f32_to_f16(base[static_cast<size_t>(j)]);
      std::memcpy(out, &b, sizeof(b));
      out += sizeof(b);
    }
  }
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
  const float id = d != 0.0f ? 1.0f / d : 0.0f;
  b.d = f32_to_f16(d);
  for (int i = 0; i < kSmallBlock; ++i) b.qs[i] = round_away(x[i] * id);
}

// ---- with importances

/// Blocks [0, in.count): d of each, the codes of its fit.
template <class Block>
requires(!Affine<Block>) void quantize_blocks(const SubBlocks& in, Block* out, SimdLevel level) {
  constexpr int kLevels = Traits<Block>::kLevels;
  SymmetricFit fit;
  symmetric_search(in, kLevels, fit, level);
  for (int64_t j = 0; j < in.count; ++j) {
    const float* x = in.x + j * kSmallBlock;
    Codes q{};  // a block of zeros keeps code 0, as ggml's
    for (size_t i = 0; i < q.size() && fit.code_scale[j] != 0.0f; ++i) {
      q[i] = nearest_code(fit.code_scale[j] * x[i], -kLevels, kLevels - 1);
    }
    store_block(q.data(), fit.scale[j], out[j]);
  }
}

template <Affine Block>
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
    store_block(q.data(), fit.scale[j], out[j]);
    out[j].m = f32_to_f16(-fit.minimum[j]);
  }
}

/// Mean of x^2, in element order: it is part of the bits.
float mean_square(const float* x, int64_t k) {
  float sum = 0.0f;
  for (int64_t i = 0; i < k; ++i) sum += x[i] * x[i];
  return sum / static_cast<float>(k);
}

enum class Mean { OfRow, OfBlock };

template <class Block, Mean kMean>
void quantize_weighted_row(const float* x, const float* importance, std::byte* out, int64_t k, SimdLevel level) {
  std::array<float, kMaxSubBlocks> sigma2;
  if constexpr (kMean == Mean::OfRow) sigma2.fill(mean_square(x, k));
  const int64_t num_blocks = k / kSmallBlock;
  for (int64_t first = 0; first < num_blocks; first += kMaxSubBlocks) {
    const int64_t count = std::min(kMaxSubBlocks, num_blocks - first);
    if constexpr (kMean == Mean::OfBlock)
      for (int64_t j = 0; j < count; ++j)
        sigma2[static_cast<size_t>(j)] = mean_square(x + (first + j) * kSmallBlock, kSmallBlock);
    const SubBlocks in{.x = x + first * kSmallBlock,
                       .importance = importance + first * kSmallBlock,
                       .sigma2 = sigma2.data(),
                       .count = count,
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
  if (importance != nullptr) return quantize_weighted_row<Block, Mean::OfRow>(x, importance, out, k, level);
  quantize_plain_row<Block>(x, out, k, level);
}

/// Q8_0 is fine enough without a search, and without code of its own for a level.
template <>
void quantize_row<BlockQ8_0>(const float* x, const float*, std::byte* out, int64_t k, SimdLevel) {
  for (int64_t i = 0; i < k; i += kSmallBlock) {
    BlockQ8_0 b;
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

QuantizeRow small_blocks_quantizer(WeightFormat format) {
  switch (format) {
    case WeightFormat::Q4_0:
      return quantize_weighted_row<BlockQ4_0, Mean::OfBlock>;
    case WeightFormat::Q4_1:
      return quantize_weighted_row<BlockQ4_1, Mean::OfBlock>;
    case WeightFormat::Q5_0:
      return quantize_weighted_row<BlockQ5_0, Mean::OfBlock>;
    case WeightFormat::Q5_1:
      return quantize_weighted_row<BlockQ5_1, Mean::OfBlock>;
    case WeightFormat::Q8_0:
      return quantize_row<BlockQ8_0>;
    default:
      return nullptr;
  }
}

}  // namespace slmi::quant
