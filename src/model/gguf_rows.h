// How exporting and verifying walk through a matrix: a few rows at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace slmi::model {

/// 16 MiB of f32: small beside the model, large enough for every thread's share.
inline constexpr int64_t kWeightsAtOnce = int64_t{4} << 20;

/// Calls body(begin, end) over [0, n), a multiple of `unit` rows each time (of n too).
template <class Body>
void for_each_rows(int64_t n, int64_t k, int64_t unit, const Body& body) {
  const int64_t rows = std::max<int64_t>(1, kWeightsAtOnce / (k * unit)) * unit;
  for (int64_t begin = 0; begin < n; begin += rows) body(begin, std::min(n, begin + rows));
}

/// Q and K: the matrices whose rows GGUF orders otherwise.
inline bool is_rotary(std::string_view hf_name) {
  return hf_name.ends_with(".q_proj.weight") || hf_name.ends_with(".k_proj.weight");
}

}  // namespace slmi::model
