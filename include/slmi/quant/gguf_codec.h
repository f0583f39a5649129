// GGUF block codecs for whole matrices: dequantize every type, quantize the 32-weight types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

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

/// True for the formats that quantize() writes: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
bool can_quantize(WeightFormat format);

/// Quantizes a row-major f32 [n, k] matrix by ggml's reference rules (quantize_row_*_ref; bits of the `gguf` package).
/// Runs on parallel_for; the result does not depend on the number of threads.
/// @throws Error{Input} if sizes do not fit or k is no multiple of the block, Error{Numeric} naming row and column if a
///         value is NaN or infinite (block formats), Error{Usage} for a format that can_quantize() denies.
std::vector<std::byte> quantize(WeightFormat format, std::span<const float> weight, int64_t n, int64_t k);

}  // namespace slmi::quant
