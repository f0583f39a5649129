// Quantizers of the K types: a search for the scales of all sub-blocks, these scales quantized in turn, then the codes.
//
// Two super-blocks go through each step together, which fills the vectors of kernels/cpu/block_search.h.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "block_quantizers.h"
#include "k_packing.h"
#include "scale_codes.h"
#include "slmi/base/half.h"
#include "slmi/kernels/cpu/block_search.h"

namespace slmi::quant {

using kernels::BlockQ2_K;
using kernels::BlockQ3_K;
using kernels::BlockQ4_K;
using kernels::BlockQ5_K;
using kernels::BlockQ6_K;
using kernels::kSuperBlock;
using kernels::cpu::AffineFit;
using kernels::cpu::AffineGrid;
using kernels::cpu::CodeRange;
using kernels::cpu::ErrorNorm;
using kernels::cpu::kMaxSubBlocks;
using kernels::cpu::SimdLevel;
using kernels::cpu::SubBlocks;
using kernels::cpu::SymmetricFit;
using kernels::cpu::Weighting;

namespace {

constexpr int64_t kSupersAtOnce = 2;

/// How a type is searched. kSigma2: the factor of the mean square in the weights with importances.
template <class Block>
struct Traits;

template <>
struct Traits<BlockQ2_K> {
  static constexpr int64_t kSub = 16;
  static constexpr int kMaxScaleCode = 15;
  static constexpr float kSigma2 = 1.0f;
  static constexpr Weighting kPlain = Weighting::Magnitude;
  static constexpr Weighting kWeighted = Weighting::ImportanceAndSize;
  static constexpr AffineGrid kGrid{
      .max_code = 3, .first = -0.5f, .step = 0.1f, .last = 15, .norm = ErrorNorm::Magnitude};
};
template <>
struct Traits<BlockQ4_K> {
  static constexpr int64_t kSub = 32;
  static constexpr int kMaxScaleCode = 63;
  static constexpr float kSigma2 = 2.0f;
  static constexpr Weighting kPlain = Weighting::RmsPlusMagnitude;
  static constexpr Weighting kWeighted = Weighting::ImportanceAndSize;
  static constexpr AffineGrid kGrid{.max_code = 15, .first = -1.0f, .step = 0.1f, .last = 20};
};
template <>
struct Traits<BlockQ5_K> {
  static constexpr int64_t kSub = 32;
  static constexpr int kMaxScaleCode = 63;
  static constexpr float kSigma2 = 2.0f;
  static constexpr Weighting kPlain = Weighting::RmsPlusMagnitude;
  static constexpr Weighting kWeighted = Weighting::ImportanceAndSize;
  static constexpr AffineGrid kGrid{.max_code = 31, .first = -0.5f, .step = 0.1f, .last = 15};
};
template <>
struct Traits<BlockQ3_K> {
  static constexpr int64_t kSub = 16;
  static constexpr int kLevels = 4;
  static constexpr float kSigma2 = 2.0f;
  static constexpr Weighting kPlain = Weighting::Square;
  static constexpr Weighting kWeighted = Weighting::ImportanceAndSize;
};
template <>
struct Traits<BlockQ6_K> {
  static constexpr int64_t kSub = 16;
  static constexpr int kLevels = 32;
  static constexpr float kSigma2 = 0.0f;  // not used
  static constexpr Weighting kPlain = Weighting::Square;
  static constexpr Weighting kWeighted = Weighting::Importance;
};

/// Codes and scales of the super-blocks at hand, sub-block by sub-block in element order.
struct Chunk {
  std::array<uint8_t, kSupersAtOnce * kSuperBlock> codes;
  std::array<float, kMaxSubBlocks> step;
  std::array<float, kMaxSubBlocks> offset{};
  uint8_t* of_super(int64_t s) { return codes.data() + s * kSuperBlock; }
};

// ---- Q2_K, Q4_K, Q5_K: w = d * sc * q - dmin * mn

constexpr AffineGrid weighted_grid(int max_code) {
  return {.max_code = max_code, .first = -0.9f, .step = 0.05f, .last = 36};
}

/// The search's own codes: they stay where the quantized scale is zero, and no code matters to the value.
void fitted_codes(const SubBlocks& in, const AffineFit& fit, int64_t j, int max_code, uint8_t* codes) {
  for (int64_t i = 0; i < in.size; ++i) {
    const float value = fit.code_scale[j] * (in.x[j * in.size + i] - fit.code_base[j]);
    codes[i] = nearest_code(value, 0.0f, static_cast<float>(max_code));
  }
}

/// Scales and minimums of super-block s into its block; steps and offsets of its sub-blocks into the chunk.
template <class Block>
void affine_scales(const SubBlocks& in, const AffineFit& fit, int64_t s, Block& block, Chunk& chunk) {
  using T = Traits<Block>;
  constexpr int64_t kNum = kSuperBlock / T::kSub;
  const int64_t first = s * kNum;
  std::array<uint8_t, kNum> sc, mn;
  const bool weighted = in.importance != nullptr;
  const float* weights = weighted ? fit.weight + first : nullptr;
  block.d = f32_to_f16(positive_scale_codes(fit.scale + first, weights, T::kMaxScaleCode, sc));
  block.dmin = f32_to_f16(positive_scale_codes(fit.minimum + first, weights, T::kMaxScaleCode, mn));
  pack_scales(sc, mn, block);
  for (int64_t j = 0; j < kNum; ++j) {
    const auto at = static_cast<size_t>(first + j);
    chunk.step[at] = f16_to_f32(block.d) * static_cast<float>(sc[static_cast<size_t>(j)]);
    chunk.offset[at] = f16_to_f32(block.dmin) * static_cast<float>(mn[static_cast<size_t>(j)]);
    if (chunk.step[at] == 0.0f) {
      fitted_codes(in, fit, first + j, T::kGrid.max_code, chunk.codes.data() + (first + j) * T::kSub);
    }
  }
}

template <class Block>
requires requires {
  Traits<Block>::kGrid;
}
void quantize_supers(const SubBlocks& in, int64_t num_supers, Block* out, SimdLevel level) {
  using T = Traits<Block>;
  AffineFit fit;
  affine_search(in, in.importance != nullptr ? weighted_grid(T::kGrid.max_code) : T::kGrid, fit, level);
  Chunk chunk;
  for (int64_t s = 0; s < num_supers; ++s) affine_scales(in, fit, s, out[s], chunk);
  round_codes(in.x, in.count, in.size, chunk.step.data(), chunk.offset.data(), {0, T::kGrid.max_code},
              chunk.codes.data(), level);
  for (int64_t s = 0; s < num_supers; ++s) pack_codes(chunk.of_super(s), out[s]);
}

// ---- Q3_K, Q6_K: w = d * sc * (q - levels)

/// Codes -levels..levels - 1 of a symmetric search, stored from 0; see fitted_codes. No code chosen: 0.
void fitted_codes(const SubBlocks& in, const SymmetricFit& fit, int64_t j, int levels, uint8_t* codes) {
  const auto low = static_cast<float>(-levels);
  for (int64_t i = 0; i < in.size; ++i) {
    const float value = fit.code_scale[j] * in.x[j * in.size + i];
    codes[i] = fit.code_scale[j] == 0.0f ? uint8_t{0} : nearest_code(value, low, -low - 1.0f);
  }
}

/// With importances the scales are searched as weights are; without, the largest gets the lowest code.
SignedScales scales_of(const SubBlocks& in, const SymmetricFit& fit, int64_t first, uint8_t*, const BlockQ3_K&,
                       SimdLevel level) {
  if (in.importance != nullptr) return searched_scale_codes(fit.scale + first, fit.weight + first, level);
  SignedScales out = signed_scale_codes(fit.scale + first, 32, 0.0f);
  if (out.d == 0.0f) out.codes.fill(-32);  // stored as zeros
  return out;
}
/// `codes` of the super-block become zeros where no scale is left: ggml clears such a block.
SignedScales scales_of(const SubBlocks&, const SymmetricFit& fit, int64_t first, uint8_t* codes, const BlockQ6_K&,
                       SimdLevel) {
  constexpr float kLeastScale = 1e-15f;
  const SignedScales out = signed_scale_codes(fit.scale + first, 128, kLeastScale);
  if (out.d == 0.0f) std::fill_n(codes, kSuperBlock, uint8_t{0});
  return out;
}

void search_symmetric(const SubBlocks& in, const BlockQ6_K&, SymmetricFit& fit, Chunk& chunk, SimdLevel level) {
  symmetric_search(in, Traits<BlockQ6_K>::kLevels, fit, level);
  for (int64_t j = 0; j < in.count; ++j) {
    fitted_codes(in, fit, j, Traits<BlockQ6_K>::kLevels, chunk.codes.data() + j * in.size);
  }
}
void search_symmetric(const SubBlocks& in, const BlockQ3_K&, SymmetricFit& fit, Chunk& chunk, SimdLevel level) {
  constexpr int kLevels = Traits<BlockQ3_K>::kLevels;
  if (in.importance != nullptr) {
    symmetric_search(in, kLevels, fit, level);
    for (int64_t j = 0; j < in.count; ++j) fitted_codes(in, fit, j, kLevels, chunk.codes.data() + j * in.size);
    return;
  }
  std::array<int8_t, kSupersAtOnce * kSuperBlock> codes;
  descent_search(in, kLevels, fit, codes.data(), level);
  for (int64_t i = 0; i < in.count * in.size; ++i) {
    chunk.codes[static_cast<size_t>(i)] = static_cast<uint8_t>(codes[static_cast<size_t>(i)] + kLevels);
  }
}

template <class Block>
requires requires {
  Traits<Block>::kLevels;
}
void quantize_supers(const SubBlocks& in, int64_t num_supers, Block* out, SimdLevel level) {
  constexpr int kLevels = Traits<Block>::kLevels;
  constexpr int64_t kNum = kSuperBlock / Traits<Block>::kSub;
  SymmetricFit fit;
  Chunk chunk;
  search_symmetric(in, *out, fit, chunk, level);
  for (int64_t s = 0; s < num_supers; ++s) {
    const SignedScales scales = scales_of(in, fit, s * kNum, chunk.of_super(s), *out, level);
    out[s].d = f32_to_f16(scales.d);
    pack_scales(scales.codes, out[s]);
    for (size_t j = 0; j < kNum; ++j) {
      chunk.step[static_cast<size_t>(s * kNum) + j] = f16_to_f32(out[s].d) * static_cast<float>(scales.codes[j]);
    }
  }
  round_codes(in.x, in.count, in.size, chunk.step.data(), chunk.offset.data(), {-kLevels, kLevels - 1},
              chunk.codes.data(), level);
  for (int64_t s = 0; s < num_supers; ++s) pack_codes(chunk.of_super(s), out[s]);
}

// ---- rows

/// kSigma2 * mean of x^2 over the super-block, in element order: it is part of the bits.
float sigma2_of(const float* x, float factor) {
  float sum = 0.0f;
  for (int64_t i = 0; i < kSuperBlock; ++i) sum += x[i] * x[i];
  return factor * sum / static_cast<float>(kSuperBlock);
}

template <class Block>
void quantize_row(const float* x, const float* importance, std::byte* out, int64_t k, SimdLevel level) {
  using T = Traits<Block>;
  constexpr int64_t kNum = kSuperBlock / T::kSub;
  const int64_t num_supers = k / kSuperBlock;
  std::array<float, kMaxSubBlocks> sigma2;
  for (int64_t first = 0; first < num_supers; first += kSupersAtOnce) {
    const int64_t now = std::min(kSupersAtOnce, num_supers - first);
    SubBlocks in{.x = x + first * kSuperBlock, .count = now * kNum, .size = T::kSub, .weighting = T::kPlain};
    if (importance != nullptr) {
      for (int64_t s = 0; s < now && T::kWeighted == Weighting::ImportanceAndSize; ++s) {
        std::fill_n(sigma2.begin() + s * kNum, kNum, sigma2_of(in.x + s * kSuperBlock, T::kSigma2));
      }
      in.importance = importance + first * kSuperBlock;
      in.sigma2 = sigma2.data();
      in.weighting = T::kWeighted;
    }
    std::array<Block, kSupersAtOnce> blocks;
    quantize_supers(in, now, blocks.data(), level);
    std::memcpy(out + first * static_cast<int64_t>(sizeof(Block)), blocks.data(),
                static_cast<size_t>(now) * sizeof(Block));
  }
}

}  // namespace

QuantizeRow k_block_quantizer(WeightFormat format) {
  switch (format) {
    case WeightFormat::Q2_K:
      return quantize_row<BlockQ2_K>;
    case WeightFormat::Q3_K:
      return quantize_row<BlockQ3_K>;
    case WeightFormat::Q4_K:
      return quantize_row<BlockQ4_K>;
    case WeightFormat::Q5_K:
      return quantize_row<BlockQ5_K>;
    case WeightFormat::Q6_K:
      return quantize_row<BlockQ6_K>;
    default:
      return nullptr;
  }
}

}  // namespace slmi::quant
