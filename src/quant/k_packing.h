// Codes and scales into the bytes of the K types' blocks: the inverse of the layouts in kernels/gguf_blocks.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "slmi/kernels/gguf_blocks.h"

namespace slmi::quant {

/// Scale and minimum codes of the sub-blocks: 0..15 for Q2_K, 0..63 else.
void pack_scales(const std::array<uint8_t, 16>& sc, const std::array<uint8_t, 16>& mn, kernels::BlockQ2_K& block);
void pack_scales(const std::array<uint8_t, 8>& sc, const std::array<uint8_t, 8>& mn, kernels::BlockQ4_K& block);
void pack_scales(const std::array<uint8_t, 8>& sc, const std::array<uint8_t, 8>& mn, kernels::BlockQ5_K& block);

/// Signed scale codes: -32..31 for Q3_K, -128..127 for Q6_K.
void pack_scales(const std::array<int8_t, 16>& sc, kernels::BlockQ3_K& block);
void pack_scales(const std::array<int8_t, 16>& sc, kernels::BlockQ6_K& block);

/// 256 codes in element order, from 0 up (Q3_K: value + 4, Q6_K: value + 32).
void pack_codes(const uint8_t* codes, kernels::BlockQ2_K& block);
void pack_codes(const uint8_t* codes, kernels::BlockQ3_K& block);
void pack_codes(const uint8_t* codes, kernels::BlockQ4_K& block);
void pack_codes(const uint8_t* codes, kernels::BlockQ5_K& block);
void pack_codes(const uint8_t* codes, kernels::BlockQ6_K& block);

}  // namespace slmi::quant
