// Codes into the bytes of the 32-weight blocks: the inverse of the layouts in kernels/gguf_blocks.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "slmi/kernels/gguf_blocks.h"

namespace slmi::quant {

inline uint64_t load8(const uint8_t* p) {
  uint64_t out;
  std::memcpy(&out, p, sizeof(out));
  return out;
}

// Nibbles of 32 codes, and where the format has them the fifth bits, in the order of gguf_blocks.h; eight codes at a
// time, the first one lowest.

inline void pack_nibbles(const uint8_t* q, uint8_t* qs) {
  constexpr uint64_t kNibbles = 0x0f0f0f0f0f0f0f0f;
  for (size_t j = 0; j < 16; j += 8) {
    const uint64_t packed = (load8(q + j) & kNibbles) | ((load8(q + 16 + j) & kNibbles) << 4);
    std::memcpy(qs + j, &packed, sizeof(packed));
  }
}

inline void pack_fifth_bits(const uint8_t* q, uint8_t* qh) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kGather = 0x0102040810204080;  // a product with it has bit 8i at 56 + i, and no other one there
  for (size_t j = 0; j < 4; ++j) {
    const uint64_t fifths = (load8(q + 8 * j) >> 4) & kOnes;
    qh[j] = static_cast<uint8_t>((fifths * kGather) >> 56);
  }
}

/// 32 codes from 0 up (Q4_0: value + 8, Q5_0: value + 16).
template <class Block>
void pack_codes(const uint8_t* q, Block& b) {
  if constexpr (requires { b.qh; }) pack_fifth_bits(q, b.qh);
  pack_nibbles(q, b.qs);
}

/// 32 codes, value + 128.
inline void pack_codes(const uint8_t* q, kernels::BlockQ8_0& b) {
  for (size_t i = 0; i < kernels::kSmallBlock; ++i) b.qs[i] = static_cast<int8_t>(q[i] - 128);
}

}  // namespace slmi::quant
