// NF4 codec with and without double quantization: the bits of bitsandbytes on the CPU.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "slmi/kernels/nf4_codebook.h"

namespace slmi::quant {

/// A matrix [n, k] in NF4. Values are blocked by 64 along the row-major flattened weight, so a block may cross rows.
struct Nf4Matrix {
  int64_t n = 0;
  int64_t k = 0;
  std::vector<uint8_t> codes;         // [ceil(n*k / 2)], value 2j in the HIGH nibble of byte j
  std::vector<float> absmax;          // [ceil(n*k / 64)]; empty if doubly quantized
  std::vector<uint8_t> absmax_codes;  // [ceil(n*k / 64)]; empty if not doubly quantized
  std::vector<float> absmax2;         // [ceil(blocks / 256)]
  float offset = 0.0f;                // mean of the absmax values

  bool doubly_quantized() const { return !absmax_codes.empty(); }
  int64_t num_blocks() const;
  /// Bytes held by all planes.
  int64_t bytes() const;
  /// For the kernels; valid while this lives unchanged.
  kernels::Nf4View view() const;
};

enum class Nf4Scales {
  Plain,   // one f32 for 64 weights: 4.5 bits a weight
  Double,  // one byte for 64 weights and one f32 for 16,384: 4.127 bits a weight
};

struct Nf4Options {
  Nf4Scales scales = Nf4Scales::Double;
  std::optional<float> offset;  // Double: use this instead of the mean (torch's mean varies in its last bits)
};

/// Quantizes a row-major f32 [n, k] weight (QLoRA, Dettmers et al. 2023, arXiv:2305.14314). Full blocks multiply by the
/// f32 reciprocal of absmax, a short last block divides, a tie between two codes goes to the lower one; all-zero blocks
/// get code 7. Runs on parallel_for; the result does not depend on the number of threads.
/// @throws Error{Input} if weight.size() != n * k or either is negative, Error{Numeric} naming row and column if a
///         value is NaN or infinite.
Nf4Matrix nf4_quantize(std::span<const float> weight, int64_t n, int64_t k, const Nf4Options& options = {});

/// f32 [n, k], row-major. Throws Error{Input} if the planes do not fit n and k or out.size() != n * k.
void nf4_dequantize(const Nf4Matrix& matrix, std::span<float> out);

/// Throws Error{Input}, `what` in the message, unless the sizes of all planes fit n and k. Call after reading a file.
void nf4_check(const Nf4Matrix& matrix, std::string_view what);

/// Second level alone: codes, absmax2 for (absmax - offset) in blocks of 256.
struct NestedScales {
  std::vector<uint8_t> codes;
  std::vector<float> absmax2;
};
NestedScales quantize_scales(std::span<const float> absmax, float offset);

/// Mean of the scales as double quantization uses it: summed in f64, rounded once to f32.
float scales_mean(std::span<const float> absmax);

}  // namespace slmi::quant
