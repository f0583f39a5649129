// The search of group_search.h, written once for every level: each lane works on a row of its own. Include vec_scalar.h
// or vec.h first, and this once a level: it defines functions.
#pragma once

#include "levels.h"
#include "search_lanes.h"

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

inline ProductSums group_codes(const float* x, const float* weight, int64_t size, F code_scale, F lowest, F highest) {
  ProductSums sums{zero(), zero()};
  for (int64_t i = 0; i < size; ++i) {
    const F value = load(x + i * kLanes);
    const F code = clamp(round_even(mul(code_scale, value)), lowest, highest);
    const F weighted = mul(all(weight[i]), code);
    sums.xl = add(sums.xl, mul(weighted, value));
    sums.ll = add(sums.ll, mul(weighted, code));
  }
  return sums;
}

}  // namespace SLMI_LEVEL_NAMESPACE

template <>
void GroupSearch<kLevel>::run(const RowGroups& in, int levels, float* scale, float* scratch) {
  constexpr int kSteps = 32;
  constexpr float kFirst = 0.625f, kLast = 1.125f;
  const auto reach = static_cast<float>(levels);
  const F lowest = all(-reach), highest = all(reach - 1.0f);
  for (int64_t first = 0; first < in.count; first += kLanes) {
    const int64_t rows = in.count - first < kLanes ? in.count - first : kLanes;
    transpose(in.x + first * in.stride, in.stride, rows, in.size, scratch);
    const F extreme = extreme_of(scratch, in.size);
    ProductSums best{zero(), all(1.0f)};
    for (int i = 0; i < 2 * kSteps; ++i) {
      const float share = kFirst + (kLast - kFirst) * static_cast<float>(i % kSteps) / static_cast<float>(kSteps - 1);
      // Where no quotient reaches the code that one side has more, the other sign has the same codes turned round.
      if (i >= kSteps && share * reach < reach - 0.51f) continue;
      const F code_scale = div(all(i < kSteps ? -share * reach : share * reach), extreme);
      const ProductSums s = group_codes(scratch, in.weight, in.size, code_scale, lowest, highest);
      // The error that is left is sum of weight * x^2 - xl^2 / ll. Of fits that are as good the first one stays: codes
      // that are all turned round have the same sums but for a sign.
      const M better = both(less(zero(), s.ll), less(mul(mul(best.xl, best.xl), s.ll), mul(mul(s.xl, s.xl), best.ll)));
      best.xl = select(better, s.xl, best.xl);
      best.ll = select(better, s.ll, best.ll);
    }
    alignas(64) float found[kLanes];
    store(found, div(best.xl, best.ll));
    for (int64_t lane = 0; lane < rows; ++lane) scale[first + lane] = found[lane];
  }
}

}  // namespace slmi::kernels::cpu::detail
