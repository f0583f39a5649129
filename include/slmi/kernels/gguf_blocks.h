// On-disk layout of GGUF's block formats, with formula and size beside each: the one place where they are written down.
//
// Source  ggml (ggml-common.h, ggml-quants.c) as of 2026-08, checked bit for bit against the `gguf` Python package.
// Little-endian. d, m, dmin are f16 bits. Every product and sum is one f32 operation, rounded on its own (no fma).
#pragma once

#include <cstdint>

namespace slmi::kernels {

/// The formats whose whole value is in one plane of bytes, as the kernels name them.
/// (quant::WeightFormat has NF4 beside these.)
enum class BlockFormat { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K };
inline constexpr int kNumBlockFormats = 13;

inline constexpr int64_t kSmallBlock = 32;   // weights of a Q4_0 .. Q8_0 block
inline constexpr int64_t kSuperBlock = 256;  // weights of a K block

// In the 32-weight formats byte j of qs holds element j (low nibble) and element j + 16 (high nibble); bit j of the
// u32 qh (bytes little-endian) is the fifth bit of element j.

/// w = d * (q - 8). 4.5 bits a weight.
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

/// w = d * q + m. 5 bits a weight.
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

/// w = d * (q - 16). 5.5 bits a weight.
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

/// w = d * q + m. 6 bits a weight.
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qh[4];
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

/// w = d * q. 8.5 bits a weight.
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

/// 16 sub-blocks of 16: w = (d * sc) * q - dmin * mn; scales[s] = sc (low nibble) | mn << 4. 2.625 bits a weight.
/// qs: 32-byte chunk c, byte l, bits 2k..2k+1 = element 128c + 32k + l.
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d;
  uint16_t dmin;
};
static_assert(sizeof(BlockQ2_K) == 84);

/// 16 sub-blocks of 16: w = (d * (sc - 32)) * (q - (h ? 0 : 4)). 3.4375 bits a weight.
/// qs as in Q2_K; h = bit i of hmask[l] for element 32i + l. scales: low nibbles of bytes 0-7 = low 4 bits of sc0-7,
/// high nibbles = of sc8-15; bytes 8-11 hold the upper 2 bits, shift 0 sc0-3, 2 sc4-7, 4 sc8-11, 6 sc12-15.
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;
};
static_assert(sizeof(BlockQ3_K) == 110);

/// 8 sub-blocks of 32: w = (d * sc) * q - dmin * mn. 4.5 bits a weight.
/// scales: bytes 0-3 low 6 bits = sc0-3, top 2 bits = bits 4-5 of sc4-7; bytes 4-7 the same for mn; bytes 8-11 low
/// nibble = low 4 bits of sc4-7, high nibble = of mn4-7. qs: 32-byte chunk c: low nibble = 64c + l, high = 64c + 32 +
/// l.
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

/// As Q4_K with a fifth bit: bit i of qh[l] belongs to element 32i + l. 5.5 bits a weight.
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

/// 16 sub-blocks of 16: w = (d * sc) * (q - 32). 6.5625 bits a weight.
/// ql: 64-byte chunk c: low nibble of byte l = element 128c + l, high = 128c + 64 + l (l 0..63).
/// qh: 32-byte chunk c, bits 2k..2k+1 of byte l = upper bits of element 128c + 32k + l.
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};
static_assert(sizeof(BlockQ6_K) == 210);

/// Weights of one block (1 for F32, F16, BF16).
constexpr int64_t block_size(BlockFormat format) {
  switch (format) {
    case BlockFormat::F32:
    case BlockFormat::F16:
    case BlockFormat::BF16:
      return 1;
    case BlockFormat::Q4_0:
    case BlockFormat::Q4_1:
    case BlockFormat::Q5_0:
    case BlockFormat::Q5_1:
    case BlockFormat::Q8_0:
      return kSmallBlock;
    default:
      return kSuperBlock;
  }
}

/// Bytes of one block.
constexpr int64_t block_bytes(BlockFormat format) {
  switch (format) {
    case BlockFormat::F32:
      return 4;
    case BlockFormat::F16:
    case BlockFormat::BF16:
      return 2;
    case BlockFormat::Q4_0:
      return sizeof(BlockQ4_0);
    case BlockFormat::Q4_1:
      return sizeof(BlockQ4_1);
    case BlockFormat::Q5_0:
      return sizeof(BlockQ5_0);
    case BlockFormat::Q5_1:
      return sizeof(BlockQ5_1);
    case BlockFormat::Q8_0:
      return sizeof(BlockQ8_0);
    case BlockFormat::Q2_K:
      return sizeof(BlockQ2_K);
    case BlockFormat::Q3_K:
      return sizeof(BlockQ3_K);
    case BlockFormat::Q4_K:
      return sizeof(BlockQ4_K);
    case BlockFormat::Q5_K:
      return sizeof(BlockQ5_K);
    case BlockFormat::Q6_K:
      return sizeof(BlockQ6_K);
  }
  return 0;
}

/// Scale and minimum number of sub-block j (0..7) of a Q4_K or Q5_K block, each 0..63.
struct ScaleMin {
  uint8_t scale;
  uint8_t min;
};
constexpr ScaleMin scale_min_k4(const uint8_t* scales, int j) {
  if (j < 4) return {static_cast<uint8_t>(scales[j] & 63), static_cast<uint8_t>(scales[j + 4] & 63)};
  return {static_cast<uint8_t>((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4)),
          static_cast<uint8_t>((scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))};
}

/// Scale of sub-block j (0..15) of a Q3_K block, -32..31.
constexpr int scale_q3_k(const uint8_t* scales, int j) {
  const int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
  const int high = (scales[8 + j % 4] >> (2 * (j / 4))) & 3;
  return (low | (high << 4)) - 32;
}

}  // namespace slmi::kernels
