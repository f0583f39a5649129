// Bit packing of the K types.
#include "k_packing.h"

namespace slmi::quant {

using kernels::BlockQ2_K;
using kernels::BlockQ3_K;
using kernels::BlockQ4_K;
using kernels::BlockQ5_K;
using kernels::BlockQ6_K;
using kernels::kSuperBlock;

namespace {

/// Bits `shift` and `shift + 1` of 256 codes, as Q2_K, Q3_K (qs) and Q6_K (qh) keep two bits of each: 64 bytes.
void pack_bit_pairs(const uint8_t* codes, int shift, uint8_t* out) {
  for (int c = 0; c < 2; ++c) {
    for (int l = 0; l < 32; ++l) {
      unsigned byte = 0;
      for (int k = 0; k < 4; ++k) byte |= ((codes[128 * c + 32 * k + l] >> shift) & 3u) << (2 * k);
      out[32 * c + l] = static_cast<uint8_t>(byte);
    }
  }
}

/// Bit `bit` of 256 codes as Q3_K (hmask) and Q5_K (qh) keep it: bit i of byte l for element 32 i + l.
void pack_single_bits(const uint8_t* codes, int bit, uint8_t* out) {
  for (int l = 0; l < 32; ++l) {
    unsigned byte = 0;
    for (int i = 0; i < 8; ++i) byte |= ((codes[32 * i + l] >> bit) & 1u) << i;
    out[l] = static_cast<uint8_t>(byte);
  }
}

/// Low four bits of elements first + l and first + half + l for l below half, of each run of 2 * half elements.
void pack_nibbles(const uint8_t* codes, int half, uint8_t* out) {
  for (int first = 0; first < kSuperBlock; first += 2 * half) {
    for (int l = 0; l < half; ++l) {
      out[first / 2 + l] = static_cast<uint8_t>((codes[first + l] & 15) | ((codes[first + half + l] & 15) << 4));
    }
  }
}

void pack_scales_k4(const std::array<uint8_t, 8>& sc, const std::array<uint8_t, 8>& mn, uint8_t* out) {
  for (size_t j = 0; j < 4; ++j) {
    out[j] = static_cast<uint8_t>(sc[j] | ((sc[j + 4] >> 4) << 6));
    out[j + 4] = static_cast<uint8_t>(mn[j] | ((mn[j + 4] >> 4) << 6));
    out[j + 8] = static_cast<uint8_t>((sc[j + 4] & 15) | ((mn[j + 4] & 15) << 4));
  }
}

}  // namespace

void pack_scales(const std::array<uint8_t, 16>& sc, const std::array<uint8_t, 16>& mn, BlockQ2_K& block) {
  for (size_t j = 0; j < 16; ++j) block.scales[j] = static_cast<uint8_t>(sc[j] | (mn[j] << 4));
}

void pack_scales(const std::array<uint8_t, 8>& sc, const std::array<uint8_t, 8>& mn, BlockQ4_K& block) {
  pack_scales_k4(sc, mn, block.scales);
}

void pack_scales(const std::array<uint8_t, 8>& sc, const std::array<uint8_t, 8>& mn, BlockQ5_K& block) {
  pack_scales_k4(sc, mn, block.scales);
}

void pack_scales(const std::array<int8_t, 16>& sc, BlockQ3_K& block) {
  std::array<uint8_t, 16> stored;
  for (size_t j = 0; j < 16; ++j) stored[j] = static_cast<uint8_t>(sc[j] + 32);
  for (size_t j = 0; j < 8; ++j) block.scales[j] = static_cast<uint8_t>((stored[j] & 15) | ((stored[j + 8] & 15) << 4));
  for (size_t j = 0; j < 4; ++j) {
    unsigned upper = 0;
    for (size_t i = 0; i < 4; ++i) upper |= static_cast<unsigned>(stored[4 * i + j] >> 4) << (2 * i);
    block.scales[8 + j] = static_cast<uint8_t>(upper);
  }
}

void pack_scales(const std::array<int8_t, 16>& sc, BlockQ6_K& block) {
  for (size_t j = 0; j < 16; ++j) block.scales[j] = sc[j];
}

void pack_codes(const uint8_t* codes, BlockQ2_K& block) {
  pack_bit_pairs(codes, 0, block.qs);
}

void pack_codes(const uint8_t* codes, BlockQ3_K& block) {
  pack_bit_pairs(codes, 0, block.qs);
  pack_single_bits(codes, 2, block.hmask);
}

void pack_codes(const uint8_t* codes, BlockQ4_K& block) {
  pack_nibbles(codes, 32, block.qs);
}

void pack_codes(const uint8_t* codes, BlockQ5_K& block) {
  pack_nibbles(codes, 32, block.qs);
  pack_single_bits(codes, 4, block.qh);
}

void pack_codes(const uint8_t* codes, BlockQ6_K& block) {
  pack_nibbles(codes, 64, block.ql);
  pack_bit_pairs(codes, 4, block.qh);
}

}  // namespace slmi::quant
