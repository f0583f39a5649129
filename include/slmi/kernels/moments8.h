// AdamW's moments in 8 bits: codes of the dynamic maps, with a scale for each block of values.
//
// Source  Dettmers et al. 2021, "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861. Beyond it, a second
//         moment above zero never takes the code of zero: its value divides the step.
#pragma once

#include <cstdint>

namespace slmi::kernels {

inline constexpr int64_t kMomentBlock = 256;
constexpr int64_t num_moment_blocks(int64_t n) {
  return (n + kMomentBlock - 1) / kMomentBlock;
}

/// Value i of a moment: map[code[i]] * absmax[i / 256]; m by dynamic_map(), v by unsigned_dynamic_map(). All zero at
/// the start of a run.
struct Moments8 {
  uint8_t *m = nullptr, *v = nullptr;              // [n]
  float *m_absmax = nullptr, *v_absmax = nullptr;  // [num_moment_blocks(n)]
};

}  // namespace slmi::kernels
