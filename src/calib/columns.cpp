// One block of columns; see the header.
#include "columns.h"

#include <algorithm>
#include <cmath>

#include "slmi/base/half.h"
#include "slmi/ops/tensor.h"
#include "slmi/quant/gptq_packing.h"

namespace slmi::calib {
namespace {

constexpr float kLevels = 15.0F;
constexpr float kZero = quant::kGptqSymmetricZero;
constexpr float kLargestF16 = 65504.0F;
constexpr float kSmallestF16 = 0x1p-24F;
constexpr int64_t kRowGrain = 8;

float code_of(float weight, float scale) {
  return std::clamp(std::nearbyint(weight / scale) + kZero, 0.0F, kLevels);
}

/// Rows [first, last) of a block on the CPU.
void quantize_rows(ColumnState& s, int64_t begin, int64_t end, int64_t first, int64_t last) {
  const int64_t k = s.weight.size(1), groups = s.scales.size(1);
  const auto* factor = s.factor.const_data_ptr<float>();
  for (int64_t row = first; row < last; ++row) {
    float* w = s.weight.data_ptr<float>() + row * k;
    auto* codes = s.codes.data_ptr<uint8_t>() + row * k;
    float* scales = s.scales.data_ptr<float>() + row * groups;
    float* errors = s.errors.data_ptr<float>() + row * kColumnBlock;
    for (int64_t i = begin; i < end; ++i) {
      if (i % s.group_size == 0) scales[i / s.group_size] = scale_of(w + i, std::min(s.group_size, k - i));
      const float scale = scales[i / s.group_size];
      const float code = code_of(w[i], scale);
      const float* u = factor + i * k;
      const float error = (w[i] - scale * (code - kZero)) / u[i];
      codes[i] = static_cast<uint8_t>(code);
      errors[i - begin] = error;
      for (int64_t j = i + 1; j < end; ++j) w[j] -= error * u[j];
    }
  }
}

at::Tensor scales_of(const at::Tensor& weights) {
  at::Tensor largest = weights.abs().amax(1);
  largest = at::where(largest == 0, at::ones_like(largest), largest);
  return (largest * 2 / kLevels).clamp_(kSmallestF16, kLargestF16).to(at::kHalf).to(at::kFloat);
}

}  // namespace

float scale_of(const float* weights, int64_t count) {
  float largest = 0.0F;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(weights[i]));
  if (largest == 0.0F) largest = 1.0F;
  return f16_to_f32(f32_to_f16(std::clamp(largest * 2.0F / kLevels, kSmallestF16, kLargestF16)));
}

void quantize_block_by_columns(ColumnState& s, int64_t begin, int64_t end) {
  const int64_t k = s.weight.size(1);
  for (int64_t i = begin; i < end; ++i) {
    if (i % s.group_size == 0)
      s.scales.select(1, i / s.group_size).copy_(scales_of(s.weight.narrow(1, i, std::min(s.group_size, k - i))));
    const at::Tensor scale = s.scales.select(1, i / s.group_size), w = s.weight.select(1, i);
    const at::Tensor code = (w / scale).round_().add_(kZero).clamp_(0, kLevels);
    const at::Tensor error = (w - scale * (code - kZero)).div_(s.factor.select(0, i).select(0, i));
    s.codes.select(1, i).copy_(code);
    s.errors.select(1, i - begin).copy_(error);
    if (i + 1 < end)
      s.weight.narrow(1, i + 1, end - i - 1)
          .sub_(at::outer(error, s.factor.select(0, i).narrow(0, i + 1, end - i - 1)));
  }
}

void quantize_block(ColumnState& state, int64_t begin, int64_t end) {
  if (!state.weight.device().is_cpu()) return quantize_block_by_columns(state, begin, end);
  ops::parallel(state.weight.size(0), kRowGrain,
                [&](int64_t first, int64_t last) { quantize_rows(state, begin, end, first, last); });
}

at::Tensor round_to_nearest(const at::Tensor& weight, int64_t group_size) {
  const int64_t n = weight.size(0), groups = weight.size(1) / group_size;
  const at::Tensor w = weight.reshape({n * groups, group_size});
  const at::Tensor scale = scales_of(w).unsqueeze(1);
  const at::Tensor code = (w / scale).round_().add_(kZero).clamp_(0, kLevels);
  return ((code - kZero) * scale).view({n, weight.size(1)});
}

}  // namespace slmi::calib
