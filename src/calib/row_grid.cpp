// Steps of GPTQ's groups and of GGUF's blocks; see the header.
#include "row_grid.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <cmath>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/kernels/cpu/group_search.h"
#include "slmi/ops/tensor.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/quant/gptq_packing.h"

namespace slmi::calib {
namespace {

constexpr float kLevels = 15.0F;
constexpr float kZero = quant::kGptqSymmetricZero;
constexpr float kLargestF16 = 65504.0F;
constexpr float kSmallestF16 = 0x1p-24F;

constexpr float kNoStep = 1e-30F;    // of weights that have a base alone: what their codes say is below f32's reach
constexpr int64_t kRowsAtOnce = 16;  // their searches work on as many blocks

/// As the file holds it: a number of f16 that is not 0.
float stored_scale(float scale) {
  const float size = std::clamp(std::fabs(scale), kSmallestF16, kLargestF16);
  return f16_to_f32(f32_to_f16(std::copysign(size, scale)));
}

}  // namespace

RowGrid::Steps RowGrid::steps_of(const at::Tensor& steps, const at::Tensor& bases, int64_t at) {
  return {steps.data_ptr<float>() + at, bases.defined() ? bases.data_ptr<float>() + at : nullptr, steps.size(1)};
}

void RowGrid::choose(const float* w, int64_t stride, int64_t first, int64_t last, int64_t column) {
  choose_into(steps_of(steps, bases, column / shared), w, stride, first, last, column);
}

void RowGrid::choose(const at::Tensor& w, int64_t column) {
  const int64_t n = w.size(0), num_steps = width / shared;
  const at::Tensor weight = w.cpu().contiguous(), chosen = at::empty({n, num_steps}, weight.options()),
                   base = bases.defined() ? at::empty_like(chosen) : at::Tensor();
  ops::parallel(n, kRowsAtOnce, [&](int64_t first, int64_t last) {
    choose_into(steps_of(chosen, base, 0), weight.const_data_ptr<float>() + first * width, width, first, last, column);
  });
  steps.narrow(1, column / shared, num_steps).copy_(chosen);
  if (bases.defined()) bases.narrow(1, column / shared, num_steps).copy_(base);
}

GptqGrid::GptqGrid(int64_t n, int64_t group_size, const at::Tensor& cost, const at::Tensor& like) {
  width = shared = group_size;
  zero = kZero;
  max_code = kLevels;
  steps = at::empty({n, cost.size(0) / group_size}, like.options());
  const at::Tensor share = (cost / cost.max()).cpu().contiguous();
  cost_.assign(share.const_data_ptr<float>(), share.const_data_ptr<float>() + share.numel());
}

void GptqGrid::choose_into(const Steps& out, const float* w, int64_t stride, int64_t first, int64_t last,
                           int64_t column) {
  std::vector<float> scales(static_cast<size_t>(last - first)),
      scratch(static_cast<size_t>(kernels::cpu::group_search_scratch(width)));
  kernels::cpu::group_search({w, stride, last - first, width, cost_.data() + column}, quant::kGptqSymmetricZero,
                             scales.data(), scratch.data());
  for (int64_t row = first; row < last; ++row)
    out.steps[row * out.stride] = stored_scale(scales[static_cast<size_t>(row - first)]);
}

at::Tensor round_to_nearest(const at::Tensor& weight, int64_t group_size) {
  const int64_t n = weight.size(0), groups = weight.size(1) / group_size;
  const at::Tensor w = weight.reshape({n * groups, group_size});
  at::Tensor largest = w.abs().amax(1, /*keepdim=*/true);
  largest = at::where(largest == 0, at::ones_like(largest), largest);
  const at::Tensor scale = (largest * 2 / kLevels).clamp_(kSmallestF16, kLargestF16).to(at::kHalf).to(at::kFloat);
  const at::Tensor code = (w / scale).round_().add_(kZero).clamp_(0, kLevels);
  return ((code - kZero) * scale).view({n, weight.size(1)});
}

BlockGrid::BlockGrid(quant::WeightFormat format, int64_t n, int64_t k, const std::vector<float>& importance,
                     const at::Tensor& like)
    : format_(format), n_(n), k_(k), row_bytes_(quant::row_bytes(format, k)), importance_(importance) {
  const auto grid = quant::code_grid(format);
  require(grid.has_value(), ErrorKind::Internal, "{} has no codes to choose", quant::name(format));
  width = grid->block;
  shared = grid->shared;
  zero = static_cast<float>(grid->zero);
  max_code = static_cast<float>(grid->max_code);
  block_bytes_ = quant::row_bytes(format, width);
  steps = at::empty({n, k / shared}, like.options());
  if (grid->has_base) bases = at::empty_like(steps);
  blocks_.resize(static_cast<size_t>(n * row_bytes_));
}

std::byte* BlockGrid::block_at(int64_t row, int64_t column) {
  return blocks_.data() + row * row_bytes_ + column / width * block_bytes_;
}

void BlockGrid::choose_into(const Steps& out, const float* w, int64_t stride, int64_t first, int64_t last,
                            int64_t column) {
  const int64_t num_steps = width / shared;
  std::vector<float> x(static_cast<size_t>(kRowsAtOnce * width)), importance(x.size());
  std::vector<std::byte> packed(static_cast<size_t>(kRowsAtOnce * block_bytes_));
  for (int64_t j = 0; j < kRowsAtOnce; ++j)
    std::copy_n(importance_.begin() + column, width, importance.begin() + j * width);
  for (int64_t begin = first; begin < last; begin += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, last - begin);
    for (int64_t j = 0; j < count; ++j)
      std::transform(w + (begin - first + j) * stride, w + (begin - first + j) * stride + width, x.begin() + j * width,
                     [](float value) { return std::clamp(value, -quant::kLargestSearched, quant::kLargestSearched); });
    quant::quantize_blocks(format_, x.data(), importance.data(), count, packed.data());
    for (int64_t j = 0; j < count; ++j) {
      const std::byte* block = packed.data() + j * block_bytes_;
      std::copy_n(block, block_bytes_, block_at(begin + j, column));
      const int64_t at = (begin + j) * out.stride;
      float* to = out.steps + at;
      quant::read_grid(format_, block, to, out.bases == nullptr ? nullptr : out.bases + at);
      std::replace(to, to + num_steps, 0.0F, kNoStep);
    }
  }
}

std::vector<std::byte> BlockGrid::blocks(const at::Tensor& codes) && {
  const at::Tensor on_cpu = codes.cpu().contiguous();
  ops::parallel(n_, kRowsAtOnce, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      for (int64_t column = 0; column < k_; column += width)
        quant::store_codes(format_, on_cpu.const_data_ptr<uint8_t>() + row * k_ + column, block_at(row, column));
  });
  return std::move(blocks_);
}

}  // namespace slmi::calib
