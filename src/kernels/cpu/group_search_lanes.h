// The search of group_search.h, written once for every level: each lane works on a row of its own. Include vec_scalar.h
// or vec.h first, and this once a level: it defines functions.
#pragma once

#include "levels.h"

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

/// Sums of weight * x * code and weight * code^2 of a column of lanes.
struct GroupSums {
  F xl, ll;
};

inline GroupSums group_codes(const float* x, const float* weight, int64_t size, F code_scale, F lowest, F highest) {
  GroupSums sums{zero(), zero()};
  for (int64_t i = 0; i < size; ++i) {
    const F value = load(x + i * kLanes);
    const F code = max(min(round_even(mul(code_scale, value)), highest), lowest);
    const F weighted = mul(all(weight[i]), code);
    sums.xl = add(sums.xl, mul(weighted, value));
    sums.ll = add(sums.ll, mul(weighted, code));
  }
  return sums;
}

inline F group_extreme(const float* x, int64_t size) {
  F extreme = zero();
  for (int64_t i = 0; i < size; ++i) {
    const F value = load(x + i * kLanes);
    extreme = select(less(abs(extreme), abs(value)), value, extreme);
  }
  return extreme;
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
    for (int64_t lane = 0; lane < kLanes; ++lane)
      for (int64_t i = 0; i < in.size; ++i)
        scratch[i * kLanes + lane] = lane < rows ? in.x[(first + lane) * in.stride + i] : 0.0f;
    const F extreme = group_extreme(scratch, in.size);
    GroupSums best{zero(), all(1.0f)};
    for (int i = 0; i < 2 * kSteps; ++i) {
      const float share = kFirst + (kLast - kFirst) * static_cast<float>(i % kSteps) / static_cast<float>(kSteps - 1);
      const F code_scale = div(all(i < kSteps ? -share * reach : share * reach), extreme);
      const GroupSums s = group_codes(scratch, in.weight, in.size, code_scale, lowest, highest);
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
