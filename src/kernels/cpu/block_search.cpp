// The searches of block_search.h: reference and choice of level.
#include "slmi/kernels/cpu/block_search.h"

#include "vec_scalar.h"
// vec_scalar.h first: it names the level
#include "block_search_lanes.h"

namespace slmi::kernels::cpu {

void affine_search(const SubBlocks& in, const AffineGrid& grid, AffineFit& out, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> { detail::BlockSearch<L>::affine(in, grid, out); });
}

void symmetric_search(const SubBlocks& in, int levels, SymmetricFit& out, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> { detail::BlockSearch<L>::symmetric(in, levels, out); });
}

void descent_search(const SubBlocks& in, int levels, SymmetricFit& out, int8_t* codes, SimdLevel level) {
  detail::at_level(level, [&]<SimdLevel L> { detail::BlockSearch<L>::descent(in, levels, out, codes); });
}

void round_codes(const float* x, int64_t count, int64_t size, const float* step, const float* offset, CodeRange range,
                 uint8_t* codes, SimdLevel level) {
  detail::at_level(level,
                   [&]<SimdLevel L> { detail::BlockSearch<L>::round(x, count, size, step, offset, range, codes); });
}

}  // namespace slmi::kernels::cpu
