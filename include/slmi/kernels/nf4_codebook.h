// NF4's sixteen values and how matrices of them lie: the one place where they are written down. The codes of doubly
// quantized scales are those of dynamic_map.h.
//
// Source  QLoRA (Dettmers et al. 2023, arXiv:2305.14314, appendix E).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace slmi::kernels {

/// Values of the codes 0..15; code 7 is an exact zero.
inline constexpr std::array<float, 16> kNf4Code = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

inline constexpr int64_t kNf4Block = 64;         // weights that share one absmax
inline constexpr int64_t kNf4NestedBlock = 256;  // absmax values that share one second-level absmax

/// Midpoints of neighbouring codes: a value above the midpoint takes the upper code, a tie the lower.
inline constexpr std::array<float, 15> kNf4Borders = [] {
  std::array<float, 15> out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = (kNf4Code[i] + kNf4Code[i + 1]) / 2.0f;
  return out;
}();

/// An NF4 matrix as kernels see it: values in the order of the row-major flattened [n, k] weight.
/// Value i: kNf4Code[code(i)] * absmax(i / 64), one f32 product.
/// absmax(b): `absmax[b]` where that is given, else map[absmax_codes[b]] * absmax2[b / 256] + offset (two roundings).
struct Nf4View {
  const uint8_t* codes = nullptr;         // [ceil(n*k / 2)], value 2j in the HIGH nibble of byte j
  const float* absmax = nullptr;          // [ceil(n*k / 64)], or null: doubly quantized
  const uint8_t* absmax_codes = nullptr;  // [ceil(n*k / 64)]
  const float* absmax2 = nullptr;         // [ceil(blocks / 256)]
  float offset = 0.0f;
  int64_t n = 0;
  int64_t k = 0;
};

}  // namespace slmi::kernels
