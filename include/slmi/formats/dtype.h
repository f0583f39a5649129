// Element types of safetensors files, and the shape type of every stored tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slmi::formats {

/// Row-major: the last dimension is contiguous. Empty for a scalar. No dimension is negative.
using Shape = std::vector<int64_t>;

/// Names as in the safetensors header. The order is the format's own, by which its writer sorts (widest first).
enum class Dtype { Bool, U8, I8, F8E5M2, F8E4M3, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64 };

/// Bytes of one element.
uint64_t dtype_bytes(Dtype dtype);
/// "BOOL", "F8_E4M3", "BF16", ...
std::string_view dtype_name(Dtype dtype);
/// Inverse of dtype_name; empty for a name that we do not know.
std::optional<Dtype> parse_dtype(std::string_view name);

/// Number of elements; throws Error{Input} if it overflows 64 bits.
uint64_t num_elements(std::span<const int64_t> shape);
/// "[2048, 64]".
std::string shape_text(std::span<const int64_t> shape);

/// Values of an F32, F16 or BF16 buffer (any alignment) as f32, exact. @throws Error{Input} naming `what` for others.
std::vector<float> floats_from(Dtype dtype, std::span<const std::byte> bytes, std::string_view what);

}  // namespace slmi::formats
