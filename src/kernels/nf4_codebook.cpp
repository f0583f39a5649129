// The dynamic map of NF4's second-level scales, generated.
#include "slmi/kernels/nf4_codebook.h"

#include <algorithm>
#include <cmath>

namespace slmi::kernels {

namespace {

/// Point i of linspace(0.1, 1, count) in f32 as torch computes it: from the nearer end, one fused multiply-add.
float linspace_point(int i, int count) {
  const float step = (1.0f - 0.1f) / static_cast<float>(count - 1);
  if (i < count / 2) return std::fma(step, static_cast<float>(i), 0.1f);
  return std::fma(-step, static_cast<float>(count - 1 - i), 1.0f);
}

std::array<float, 256> make_dynamic_map() {
  std::array<float, 256> map{};
  size_t used = 0;
  for (int exponent = 0; exponent < 7; ++exponent) {
    const int intervals = 1 << exponent;
    const float scale = static_cast<float>(std::pow(10.0, exponent - 6));
    for (int i = 0; i < intervals; ++i) {
      const float middle = (linspace_point(i, intervals + 1) + linspace_point(i + 1, intervals + 1)) / 2.0f;
      map[used++] = scale * middle;
      map[used++] = -scale * middle;
    }
  }
  map[used++] = 0.0f;
  map[used++] = 1.0f;
  std::sort(map.begin(), map.end());
  return map;
}

}  // namespace

const std::array<float, 256>& dynamic_map() {
  static const std::array<float, 256> map = make_dynamic_map();
  return map;
}

}  // namespace slmi::kernels
