// The vector exp as a function over arrays, so that its error can be measured (tests/kernels/math_test.cpp).
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

template <>
void Math<kLevel>::exp(const float* x, float* y, int64_t n) {
  for_vectors(n, [&](int64_t i, auto lanes) { store(y + i, SLMI_LEVEL_NAMESPACE::exp(load(x + i, lanes)), lanes); });
}

}  // namespace slmi::kernels::cpu::detail
