// The search of group_search.h: reference and choice of level.
#include "slmi/kernels/cpu/group_search.h"

#include "vec_scalar.h"
// vec_scalar.h first: it names the level
#include "group_search_lanes.h"

namespace slmi::kernels::cpu {

int64_t group_search_scratch(int64_t size) {
  constexpr int64_t kMostLanes = 16;
  return size * kMostLanes;
}

void group_search(const RowGroups& in, int levels, float* scale, float* scratch, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> { detail::GroupSearch<L>::run(in, levels, scale, scratch); });
}

}  // namespace slmi::kernels::cpu
