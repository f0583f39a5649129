// GGUF block codecs for whole matrices: dequantize and quantize every type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/gguf_blocks.h"
#include "slmi/quant/weight_format.h"

namespace slmi::quant {

/// The kernels' name of a format; throws Error{Internal} for NF4 and GPTQ, which have planes of their own (nf4.h,
/// gptq_packing.h).
kernels::BlockFormat block_format(WeightFormat format);

/// Dequantizes rows [row_begin, row_end) of a packed [n, k] matrix of any format but NF4 and GPTQ.
/// @param src  the whole matrix, matrix_bytes(format, n, k) bytes; block formats on an even address (GGUF's always
/// are).
/// @param out  [row_end - row_begin, k] row-major; f32, or bf16 bits for u16.
/// Runs on parallel_for. @throws Error{Input} if sizes do not fit, Error{Internal} for a range outside [0, n].
void dequantize(WeightFormat format, std::span<const std::byte> src, int64_t n, int64_t k, int64_t row_begin,
                int64_t row_end, std::span<float> out);
void dequantize(WeightFormat format, std::span<const std::byte> src, int64_t n, int64_t k, int64_t row_begin,
                int64_t row_end, std::span<uint16_t> out);

/// All of a packed [n, k] matrix as f32.
std::vector<float> dequantize(WeightFormat format, std::span<const std::byte> src, int64_t n, int64_t k);

/// True for the formats that quantize() writes: all but NF4 (nf4.h).
bool can_quantize(WeightFormat format);

/// The searches' bound on weights: half of f16's range, since a fitted minimum may lie beyond the lowest weight. Below
/// it squares, their sums and the f16 scales stay finite.
inline constexpr float kLargestSearched = 32768.0f;

struct QuantizeOptions {
  /// One weight a column, f32 [k], finite and >= 0: the mean over calibration tokens of the square of that input (an
  /// importance matrix, as llama.cpp calls it). Empty: none. Q8_0 and the unquantized formats do not use it.
  std::span<const float> importance = {};
  /// For tests: every level gives the same bits.
  kernels::cpu::SimdLevel level = kernels::cpu::simd().level;
};

/// Quantizes a row-major f32 [n, k] matrix; the bits are llama.cpp's. Without importances: ggml's quantize_row_*_ref
/// (for the 32-weight types also the `gguf` package). With them: the weighted searches of ggml_quantize_chunk. Where
/// all importances of a sub-block are zero, its weights may become zero: callers give such columns a weight. Runs on
/// parallel_for; the result does not depend on the number of threads.
/// @param out  matrix_bytes(format, n, k) bytes.
/// @throws Error{Input} if sizes do not fit or k is no multiple of the block, Error{Numeric} naming row and column if a
///         value is NaN or infinite (block formats) or beyond kLargestSearched (K types, or importances given), naming
///         the column for an importance that is no number >= 0; Error{Usage} for a format that can_quantize() denies.
void quantize(WeightFormat format, std::span<const float> weight, int64_t n, int64_t k, std::span<std::byte> out,
              const QuantizeOptions& options = {});
std::vector<std::byte> quantize(WeightFormat format, std::span<const float> weight, int64_t n, int64_t k,
                                const QuantizeOptions& options = {});

}  // namespace slmi::quant
