// The dynamic maps, generated.
#include "slmi/kernels/dynamic_map.h"

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

enum class Signs { Both, Positive };

DynamicMap make_map(Signs signs) {
  DynamicMap map{};
  size_t used = 0;
  for (int exponent = 0; exponent < 7; ++exponent) {
    const int intervals = signs == Signs::Both ? 1 << exponent : 2 << exponent;
    const float scale = static_cast<float>(std::pow(10.0, exponent - 6));
    for (int i = 0; i < intervals; ++i) {
      const float middle = (linspace_point(i, intervals + 1) + linspace_point(i + 1, intervals + 1)) / 2.0f;
      map[used++] = scale * middle;
      if (signs == Signs::Both) map[used++] = -scale * middle;
    }
  }
  map[used++] = 0.0f;
  map[used++] = 1.0f;
  std::sort(map.begin(), map.end());
  return map;
}

}  // namespace

const DynamicMap& dynamic_map() {
  static const DynamicMap map = make_map(Signs::Both);
  return map;
}

const DynamicMap& unsigned_dynamic_map() {
  static const DynamicMap map = make_map(Signs::Positive);
  return map;
}

std::array<float, 255> borders_of(const DynamicMap& map) {
  std::array<float, 255> out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = (map[i] + map[i + 1]) / 2.0f;
  return out;
}

}  // namespace slmi::kernels
