// GPTQ's 4-bit planes as checkpoints hold them: packing, unpacking, dequantization, and whether they fit a matrix.
//
//   w[n, k] = scale[g, n] * (code[k, n] - zero[g, n]),  g = g_idx[k];   code and zero 0..15
//
// Source  Frantar et al. 2022, arXiv:2210.17323; the layout is AutoGPTQ's and GPTQModel's (BaseQuantLinear). Weights
//         pack along inputs, zeros along outputs. Letters: N outputs, K inputs, G groups.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace slmi::quant {

/// How a zero is stored. MinusOne ("gptq", v1): zero - 1, so that a zero of 0 has no place; it was written as 15 by
/// programs that did so all the same, and reads as 0. AsIs ("gptq_v2").
enum class GptqZeros { MinusOne, AsIs };

/// Element type of the scales.
enum class GptqScales { F16, BF16, F32 };

/// Matrix dimensions must be multiples of this.
inline constexpr int64_t kGptqMultiple = 32;

/// The zero of a symmetric 4-bit grid: codes reach from -8 to +7 scales.
inline constexpr uint8_t kGptqSymmetricZero = 8;

/// The planes of a matrix in a file's bytes, at any alignment, which must outlive this. Little-endian.
struct GptqView {
  int64_t n = 0, k = 0, groups = 0;
  GptqZeros zeros = GptqZeros::MinusOne;
  GptqScales scale_type = GptqScales::F16;
  std::span<const std::byte> qweight;  // u32 [K/8, N]: nibble j (low first) of word [r, o] is the code of input 8r + j
  std::span<const std::byte> qzeros;   // u32 [G, N/8]: nibble j of word [g, c] is the stored zero of output 8c + j
  std::span<const std::byte> scales;   // [G, N]
  std::span<const std::byte> g_idx;    // i32 [K]; empty: input k belongs to group k / group_size
  int64_t group_size = 0;              // where g_idx is empty

  /// Bytes of all planes.
  uint64_t bytes() const { return qweight.size() + qzeros.size() + scales.size() + g_idx.size(); }
};

/// A matrix taken apart, rows as in Hugging Face's weight.
struct GptqCodes {
  int64_t n = 0, k = 0, groups = 0;
  std::vector<uint8_t> codes;  // [N, K]
  std::vector<float> scales;   // [N, G]
  std::vector<uint8_t> zeros;  // [N, G]
  std::vector<int32_t> g_idx;  // [K]
};

/// A matrix ready to be written; scales are f16.
struct GptqPlanes {
  int64_t n = 0, k = 0, groups = 0;
  GptqZeros zeros_form = GptqZeros::MinusOne;
  std::vector<uint32_t> qweight;  // [K/8, N]
  std::vector<uint32_t> qzeros;   // [G, N/8]
  std::vector<uint16_t> scales;   // f16 bits [G, N]
  std::vector<int32_t> g_idx;     // [K]

  /// Valid while this lives unchanged.
  GptqView view() const;
};

/// Throws Error{Input}, `what` in the message, unless the planes fit n, k and groups, every group of g_idx exists, and
/// the scales are finite. Call after reading a file.
void gptq_check(const GptqView& view, std::string_view what);

/// @throws Error{Input} if sizes do not fit, a code or zero is above 15, a scale is not exactly an f16 number, or a
///         zero is 0 where MinusOne cannot hold it.
GptqPlanes gptq_pack(const GptqCodes& matrix, GptqZeros form);

/// The inverse, of a checked view.
GptqCodes gptq_unpack(const GptqView& view);

/// Scales and zeros [G, N] and groups [K] of a checked view as numbers.
void gptq_groups(const GptqView& view, float* scales, float* zeros, int64_t* g_idx);

/// Rows [row_begin, row_end) of a checked view to out, `stride` elements from row to row; f32, or bf16 bits. The f32
/// value is exact for f16 scales (11 by 5 bits); bf16 rounds once. Starts no threads.
void gptq_dequantize_rows(const GptqView& view, float* out, int64_t stride, int64_t row_begin, int64_t row_end);
void gptq_dequantize_rows(const GptqView& view, uint16_t* out, int64_t stride, int64_t row_begin, int64_t row_end);

}  // namespace slmi::quant
