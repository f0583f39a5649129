// Quantizers of rows, by format: shared by the files of quant that define them and gguf_codec.cpp, which calls them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/quant/weight_format.h"

namespace slmi::quant {

/// The code nearest to value (ties to even) of lowest, lowest + 1, .. highest, counted from lowest; 0 for a NaN, which
/// the reciprocal of a subnormal scale can lead to.
inline uint8_t nearest_code(float value, float lowest, float highest) {
  const float code = std::nearbyint(value);
  return code > lowest ? static_cast<uint8_t>((code < highest ? code : highest) - lowest) : uint8_t{0};
}

/// One row: x f32 [k], k a multiple of the block; importance f32 [k], finite and >= 0, or null; out row_bytes(format,
/// k) bytes, on any address. Values are finite and, where a search is made (K types, importance given), at most 32768.
using QuantizeRow = void (*)(const float* x, const float* importance, std::byte* out, int64_t k,
                             kernels::cpu::SimdLevel level);

/// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0; null for other formats. small_blocks.cpp.
QuantizeRow small_block_quantizer(WeightFormat format);
/// The same for blocks that have nothing to do with each other: importances are weighed by each block's own mean
/// square.
QuantizeRow small_blocks_quantizer(WeightFormat format);

/// Q2_K, Q3_K, Q4_K, Q5_K, Q6_K; null for other formats. k_blocks.cpp.
QuantizeRow k_block_quantizer(WeightFormat format);

}  // namespace slmi::quant
