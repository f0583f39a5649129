// Quantization of scales: ggml's rules (see kernels/cpu/block_search.h), in plain code: 8 or 16 values for 256 weights.
#include "scale_codes.h"

#include <algorithm>
#include <cmath>

#include "block_quantizers.h"
#include "slmi/kernels/cpu/block_search.h"

namespace slmi::quant {

namespace {

constexpr float kLeastScale = 1e-15f;  // below this all scales count as zero

struct Scales {
  const float* value;
  const float* weight;
  size_t count;
  float max_code;
};

float code_of(const Scales& s, size_t i, float inverse) {
  return std::min(std::nearbyint(inverse * s.value[i]), s.max_code);
}

/// 1 / d of the least weighted error on the grid (max_code + step / 10) / largest, step -4..4; the middle first.
float best_inverse(const Scales& s, float largest) {
  float best = 0.0f, least_error = 0.0f;
  for (const int step : {0, -4, -3, -2, -1, 1, 2, 3, 4}) {
    const float inverse = (0.1f * static_cast<float>(step) + s.max_code) / largest;
    const float d = 1.0f / inverse;
    float error = 0.0f;
    for (size_t i = 0; i < s.count; ++i) {
      const float difference = s.value[i] - d * code_of(s, i, inverse);
      error += s.weight[i] * difference * difference;
    }
    if (step == 0 || error < least_error) {
      least_error = error;
      best = inverse;
    }
  }
  return best;
}

struct ProductSums {
  float xl = 0.0f, ll = 0.0f;  // sums of w * x * code, w * code^2; d = xl / ll is the weighted least-squares scale
};

/// Moves each code where the others put it, if that lowers the error; true if one moved.
bool descend(const Scales& s, std::array<float, 16>& code, ProductSums& sums) {
  bool moved = false;
  for (size_t i = 0; i < s.count; ++i) {
    const float w = s.weight[i], x = s.value[i];
    const float xl = sums.xl - w * x * code[i], ll = sums.ll - w * code[i] * code[i];
    if (!(xl > 0.0f && ll > 0.0f)) continue;
    const float wanted = std::min(std::nearbyint(x * ll / xl), s.max_code);
    if (wanted == code[i]) continue;
    const float new_xl = xl + w * x * wanted, new_ll = ll + w * wanted * wanted;
    if (new_xl * new_xl * sums.ll > sums.xl * sums.xl * new_ll) {
      code[i] = wanted;
      sums = {new_xl, new_ll};
      moved = true;
    }
  }
  return moved;
}

float weighted_scale_codes(const Scales& s, float largest, std::span<uint8_t> codes) {
  constexpr int kRounds = 5;
  const float inverse = best_inverse(s, largest);
  std::array<float, 16> code;
  ProductSums sums;
  for (size_t i = 0; i < s.count; ++i) {
    code[i] = code_of(s, i, inverse);
    sums.xl += s.weight[i] * s.value[i] * code[i];
    sums.ll += s.weight[i] * code[i] * code[i];
  }
  for (int round = 0; round < kRounds && descend(s, code, sums); ++round) {
  }
  for (size_t i = 0; i < s.count; ++i) codes[i] = static_cast<uint8_t>(std::max(code[i], 0.0f));
  return sums.ll > 0.0f ? sums.xl / sums.ll : 0.0f;
}

}  // namespace

float positive_scale_codes(const float* scales, const float* weights, int max_code, std::span<uint8_t> codes) {
  const auto highest = static_cast<float>(max_code);
  const float largest = std::max(0.0f, *std::max_element(scales, scales + codes.size()));
  if (weights != nullptr && largest >= kLeastScale) {
    return weighted_scale_codes({scales, weights, codes.size(), highest}, largest, codes);
  }
  const float inverse = largest > 0.0f && weights == nullptr ? highest / largest : 0.0f;
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = nearest_code(inverse * scales[i], 0.0f, highest);
  }
  return weights == nullptr ? largest / highest : 0.0f;
}

SignedScales signed_scale_codes(const float* scales, int levels, float least) {
  float extreme = 0.0f;
  for (size_t j = 0; j < 16; ++j) {
    if (std::fabs(scales[j]) > std::fabs(extreme)) extreme = scales[j];
  }
  SignedScales out{.d = 0.0f, .codes = {}};
  if (std::fabs(extreme) < least || extreme == 0.0f) return out;
  const auto lowest = static_cast<float>(-levels);
  const float inverse = lowest / extreme;
  for (size_t j = 0; j < 16; ++j) {
    out.codes[j] = static_cast<int8_t>(std::clamp(std::nearbyint(inverse * scales[j]), lowest, -lowest - 1.0f));
  }
  out.d = 1.0f / inverse;
  return out;
}

SignedScales searched_scale_codes(const float* scales, const float* weights, kernels::cpu::SimdLevel level) {
  constexpr int kLevels = 32;
  constexpr float kLowest = -kLevels, kHighest = kLevels - 1;
  kernels::cpu::SymmetricFit fit;
  symmetric_search(
      {.x = scales, .importance = weights, .count = 1, .size = 16, .weighting = kernels::cpu::Weighting::Importance},
      kLevels, fit, level);
  SignedScales out{.d = fit.scale[0], .codes = {}};
  for (size_t j = 0; j < 16; ++j) {
    const float code = fit.code_scale[0] == 0.0f ? kLowest : std::nearbyint(fit.code_scale[0] * scales[j]);
    out.codes[j] = static_cast<int8_t>(std::clamp(code, kLowest, kHighest));
  }
  return out;
}

}  // namespace slmi::quant
