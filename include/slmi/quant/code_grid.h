// GGUF blocks as grids: the values that a weight may take once its block's scales are chosen. For quantizers that
// choose the codes themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "slmi/quant/weight_format.h"

namespace slmi::quant {

/// w = base + step * (code - zero), codes 0..max_code.
struct CodeGrid {
  int64_t block;   // weights whose steps are chosen together
  int64_t shared;  // neighbours among them with one step and base
  int zero;
  int max_code;
  bool has_base;  // false: base is 0
};

/// Of a block format; none for F32, F16, BF16, NF4 and GPTQ.
std::optional<CodeGrid> code_grid(WeightFormat format);

/// Packs `count` blocks, each by itself: scales and codes of the format's own quantizer, the mean square that weighs
/// importances taken over a block where quantize() takes it over a row. Runs on one thread; nothing is checked.
/// @param x           f32 [count * block], finite and at most 32768 in magnitude.
/// @param importance  the same shape, finite and >= 0.
/// @param out         count packed blocks.
void quantize_blocks(WeightFormat format, const float* x, const float* importance, int64_t count, std::byte* out);

/// Steps of a packed block, and its bases where the format has them: f32 [block / shared] each. @throws Error{Internal}
/// for a format without a grid, as store_codes.
void read_grid(WeightFormat format, const std::byte* block, float* steps, float* bases);

/// Puts other codes, u8 [block] in element order, into a packed block; its scales stay.
void store_codes(WeightFormat format, const uint8_t* codes, std::byte* block);

}  // namespace slmi::quant
