// The scalar reference of dequantization: it defines the bits that every other level must give.
#include <cstring>

#include "dequantize_levels.h"
#include "slmi/base/half.h"

namespace slmi::kernels::cpu::detail {

namespace {

inline void store(float* dst, float value) {
  *dst = value;
}
inline void store(uint16_t* dst, float value) {
  *dst = f32_to_bf16(value);
}

/// Fifth bit of element i of a Q5_0 or Q5_1 block, as 0 or 16.
inline int fifth_bit(const uint8_t* qh, int i) {
  return ((qh[i / 8] >> (i % 8)) & 1) << 4;
}

inline int nibble(const uint8_t* qs, int i) {
  return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

template <class T>
void block(const BlockQ4_0& b, T* dst) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 32; ++i) store(dst + i, d * static_cast<float>(nibble(b.qs, i) - 8));
}

template <class T>
void block(const BlockQ4_1& b, T* dst) {
  const float d = f16_to_f32(b.d);
  const float m = f16_to_f32(b.m);
  for (int i = 0; i < 32; ++i) store(dst + i, d * static_cast<float>(nibble(b.qs, i)) + m);
}

template <class T>
void block(const BlockQ5_0& b, T* dst) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 32; ++i) store(dst + i, d * static_cast<float>((nibble(b.qs, i) | fifth_bit(b.qh, i)) - 16));
}

template <class T>
void block(const BlockQ5_1& b, T* dst) {
  const float d = f16_to_f32(b.d);
  const float m = f16_to_f32(b.m);
  for (int i = 0; i < 32; ++i) store(dst + i, d * static_cast<float>(nibble(b.qs, i) | fifth_bit(b.qh, i)) + m);
}

template <class T>
void block(const BlockQ8_0& b, T* dst) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 32; ++i) store(dst + i, d * static_cast<float>(b.qs[i]));
}

template <class T>
void block(const BlockQ2_K& b, T* dst) {
  const float d = f16_to_f32(b.d);
  const float dmin = f16_to_f32(b.dmin);
  for (int i = 0; i < 256; ++i) {
    const int sub = i / 16;
    const float scale = d * static_cast<float>(b.scales[sub] & 15);
    const float min = dmin * static_cast<float>(b.scales[sub] >> 4);
    const int q = (b.qs[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32))) & 3;
    store(dst + i, scale * static_cast<float>(q) - min);
  }
}

template <class T>
void block(const BlockQ3_K& b, T* dst) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 256; ++i) {
    const float scale = d * static_cast<float>(scale_q3_k(b.scales, i / 16));
    const int low = (b.qs[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32))) & 3;
    const int high = (b.hmask[i % 32] >> (i / 32)) & 1;
    store(dst + i, scale * static_cast<float>(low - (high != 0 ? 0 : 4)));
  }
}

template <class T>
void block(const BlockQ4_K& b, T* dst) {
  const float d = f16_to_f32(b.d);
  const float dmin = f16_to_f32(b.dmin);
  for (int i = 0; i < 256; ++i) {
    const ScaleMin s = scale_min_k4(b.scales, i / 32);
    const int packed = b.qs[i / 64 * 32 + i % 32];
    const int q = i % 64 < 32 ? packed & 15 : packed >> 4;
    store(dst + i, (d * static_cast<float>(s.scale)) * static_cast<float>(q) - dmin * static_cast<float>(s.min));
  }
}

template <class T>
void block(const BlockQ5_K& b, T* dst) {
  const float d = f16_to_f32(b.d);
  const float dmin = f16_to_f32(b.dmin);
  for (int i = 0; i < 256; ++i) {
    const ScaleMin s = scale_min_k4(b.scales, i / 32);
    const int packed = b.qs[i / 64 * 32 + i % 32];
    const int q = (i % 64 < 32 ? packed & 15 : packed >> 4) | (((b.qh[i % 32] >> (i / 32)) & 1) << 4);
    store(dst + i, (d * static_cast<float>(s.scale)) * static_cast<float>(q) - dmin * static_cast<float>(s.min));
  }
}

template <class T>
void block(const BlockQ6_K& b, T* dst) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 256; ++i) {
    const int chunk = i / 128;
    const int within = i % 128;
    const int packed = b.ql[chunk * 64 + within % 64];
    const int low = within < 64 ? packed & 15 : packed >> 4;
    const int high = (b.qh[chunk * 32 + within % 32] >> (2 * (within / 32))) & 3;
    store(dst + i, (d * static_cast<float>(b.scales[i / 16])) * static_cast<float>((low | (high << 4)) - 32));
  }
}

template <class Block, int64_t kWeights, class T>
void block_row(const std::byte* src, T* dst, int64_t k) {
  for (int64_t i = 0; i < k; i += kWeights) {
    block(*reinterpret_cast<const Block*>(src), dst + i);
    src += sizeof(Block);
  }
}

template <class T>
void f32_row(const std::byte* src, T* dst, int64_t k) {
  for (int64_t i = 0; i < k; ++i) {
    float value = 0.0f;
    std::memcpy(&value, src + 4 * i, sizeof(value));
    store(dst + i, value);
  }
}

template <class T>
void f16_row(const std::byte* src, T* dst, int64_t k) {
  for (int64_t i = 0; i < k; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, src + 2 * i, sizeof(bits));
    store(dst + i, f16_to_f32(bits));
  }
}

void bf16_row(const std::byte* src, float* dst, int64_t k) {
  for (int64_t i = 0; i < k; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, src + 2 * i, sizeof(bits));
    dst[i] = bf16_to_f32(bits);
  }
}

void bf16_row(const std::byte* src, uint16_t* dst, int64_t k) {
  std::memcpy(dst, src, static_cast<size_t>(k) * sizeof(uint16_t));
}

}  // namespace

template <class T>
RowFunction<T> scalar_row(BlockFormat format) {
  switch (format) {
    case BlockFormat::F32:
      return f32_row<T>;
    case BlockFormat::F16:
      return f16_row<T>;
    case BlockFormat::BF16:
      return static_cast<RowFunction<T>>(bf16_row);
    case BlockFormat::Q4_0:
      return block_row<BlockQ4_0, kSmallBlock, T>;
    case BlockFormat::Q4_1:
      return block_row<BlockQ4_1, kSmallBlock, T>;
    case BlockFormat::Q5_0:
      return block_row<BlockQ5_0, kSmallBlock, T>;
    case BlockFormat::Q5_1:
      return block_row<BlockQ5_1, kSmallBlock, T>;
    case BlockFormat::Q8_0:
      return block_row<BlockQ8_0, kSmallBlock, T>;
    case BlockFormat::Q2_K:
      return block_row<BlockQ2_K, kSuperBlock, T>;
    case BlockFormat::Q3_K:
      return block_row<BlockQ3_K, kSuperBlock, T>;
    case BlockFormat::Q4_K:
      return block_row<BlockQ4_K, kSuperBlock, T>;
    case BlockFormat::Q5_K:
      return block_row<BlockQ5_K, kSuperBlock, T>;
    case BlockFormat::Q6_K:
      return block_row<BlockQ6_K, kSuperBlock, T>;
  }
  return nullptr;
}

template RowFunction<float> scalar_row<float>(BlockFormat);
template RowFunction<uint16_t> scalar_row<uint16_t>(BlockFormat);

}  // namespace slmi::kernels::cpu::detail
