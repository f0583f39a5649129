// The formats a weight matrix may be stored in: names, ggml type numbers, and the size of a row.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace slmi::quant {

/// How the values of a weight matrix are stored. The block formats are GGUF's (kernels/gguf_blocks.h gives layout and
/// formula); NF4 is bitsandbytes' (nf4.h) and GPTQ is AutoGPTQ's 4-bit form (gptq_packing.h), whose scales live in
/// planes of their own.
enum class WeightFormat { F32, F16, BF16, NF4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, GPTQ };

/// Every format, in the order of the enum.
std::span<const WeightFormat> all_weight_formats();

/// "F32", "Q4_K", ...: GGUF's spelling.
std::string_view name(WeightFormat format);

/// Inverse of name(), letter case ignored; throws Error{Usage} that lists the known names.
WeightFormat parse_weight_format(std::string_view text);

/// ggml's type number (F32 0, F16 1, Q4_0 2, ... BF16 30); empty for NF4 and GPTQ, which GGUF has not.
std::optional<uint32_t> ggml_type_id(WeightFormat format);

/// Inverse of ggml_type_id(); empty for a type we do not read (the caller names file and tensor).
std::optional<WeightFormat> weight_format_from_ggml(uint32_t type_id);

/// True for formats that hold groups of values with shared scales (all but F32, F16, BF16).
bool is_quantized(WeightFormat format);

/// True for NF4 and GPTQ: the sizes below are those of the codes alone.
bool has_planes(WeightFormat format);

/// Weights of one block: 1 for F32, F16, BF16; 64 for NF4; 8, a word, for GPTQ; 32 or 256 for GGUF's.
int64_t block_size(WeightFormat format);

/// Bytes of one block.
int64_t block_bytes(WeightFormat format);

/// Bytes of one row of k >= 0 weights (NF4: k even). Throws Error{Input} if k is not a multiple of the
/// block size (NF4: of 2, as its blocks may cross rows), is negative, or the result does not fit 63 bits.
int64_t row_bytes(WeightFormat format, int64_t k);

/// Bytes of an [n, k] matrix (NF4: n * k even is enough); throws as row_bytes.
int64_t matrix_bytes(WeightFormat format, int64_t n, int64_t k);

}  // namespace slmi::quant
