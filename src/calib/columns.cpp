// One block of columns, and all of them; see the header.
#include "columns.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <cmath>

#include "slmi/ops/tensor.h"

namespace slmi::calib {
namespace {

constexpr int64_t kRowTile = 16;  // rows that choose their steps together

float code_of(float weight, float step, const RowGrid& grid) {
  return std::clamp(std::nearbyint(weight / step) + grid.zero, 0.0F, grid.max_code);
}

/// Rows [first, last) of a block on the CPU.
void quantize_rows(ColumnState& s, int64_t begin, int64_t end, int64_t first, int64_t last) {
  RowGrid& grid = *s.grid;
  const int64_t k = s.weight.size(1), num_steps = grid.steps.size(1);
  const auto *factor = s.factor.const_data_ptr<float>(), *steps = grid.steps.const_data_ptr<float>();
  const auto* bases = grid.bases.defined() ? grid.bases.const_data_ptr<float>() : nullptr;
  auto *weight = s.weight.data_ptr<float>(), *errors = s.errors.data_ptr<float>();
  auto* codes = s.codes.data_ptr<uint8_t>();
  for (int64_t i = begin; i < end; ++i) {
    if (i % grid.width == 0) grid.choose(weight + first * k + i, k, first, last, i);
    const float* u = factor + i * k;
    for (int64_t row = first; row < last; ++row) {
      float* w = weight + row * k;
      const int64_t at = row * num_steps + i / grid.shared;
      const float step = steps[at], base = bases != nullptr ? bases[at] : 0.0F;
      const float code = code_of(w[i] - base, step, grid);
      const float error = (w[i] - (base + step * (code - grid.zero))) / u[i];
      codes[row * k + i] = static_cast<uint8_t>(code);
      errors[row * kColumnBlock + i - begin] = error;
      for (int64_t j = i + 1; j < end; ++j) w[j] -= error * u[j];
    }
  }
}

}  // namespace

void quantize_block_by_columns(ColumnState& s, int64_t begin, int64_t end) {
  RowGrid& grid = *s.grid;
  for (int64_t i = begin; i < end; ++i) {
    if (i % grid.width == 0) grid.choose(s.weight.narrow(1, i, grid.width), i);
    const at::Tensor step = grid.steps.select(1, i / grid.shared), w = s.weight.select(1, i);
    const at::Tensor base = grid.bases.defined() ? grid.bases.select(1, i / grid.shared) : at::Tensor();
    const at::Tensor code = ((base.defined() ? w - base : w) / step).round_().add_(grid.zero).clamp_(0, grid.max_code);
    at::Tensor value = step * (code - grid.zero);
    if (base.defined()) value += base;
    const at::Tensor error = (w - value).div_(s.factor.select(0, i).select(0, i));
    s.codes.select(1, i).copy_(code);
    s.errors.select(1, i - begin).copy_(error);
    if (i + 1 < end)
      s.weight.narrow(1, i + 1, end - i - 1)
          .sub_(at::outer(error, s.factor.select(0, i).narrow(0, i + 1, end - i - 1)));
  }
}

void quantize_block(ColumnState& state, int64_t begin, int64_t end) {
  if (!state.weight.device().is_cpu()) return quantize_block_by_columns(state, begin, end);
  const int64_t n = state.weight.size(0), tiles = (n + kRowTile - 1) / kRowTile;
  ops::parallel(tiles, 1, [&](int64_t first, int64_t last) {
    for (int64_t tile = first; tile < last; ++tile)
      quantize_rows(state, begin, end, tile * kRowTile, std::min(n, (tile + 1) * kRowTile));
  });
}

void quantize_columns(std::vector<ColumnState>& parts, at::Tensor& weight, at::Tensor& errors,
                      const at::Tensor& factor) {
  const int64_t k = weight.size(1);
  for (int64_t begin = 0; begin < k; begin += kColumnBlock) {
    const int64_t end = std::min(k, begin + kColumnBlock);
    for (auto& part : parts) quantize_block(part, begin, end);
    if (end < k)
      weight.narrow(1, end, k - end)
          .addmm_(errors.narrow(1, 0, end - begin), factor.narrow(0, begin, end - begin).narrow(1, end, k - end), 1,
                  -1);
  }
}

}  // namespace slmi::calib
