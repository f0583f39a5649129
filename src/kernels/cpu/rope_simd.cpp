// Rotary position embedding in vectors.
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

template <>
template <class T>
void Rope<kLevel>::apply(T* x, int64_t x_stride, int64_t num_heads, int64_t head_dim, const float* cos,
                         const float* sin, const int32_t* positions, float sin_sign, int64_t begin, int64_t end) {
  const int64_t half = head_dim / 2;
  const F sign = all(sin_sign);
  for (int64_t t = begin; t < end; ++t) {
    const float* cos_row = cos + positions[t] * half;
    const float* sin_row = sin + positions[t] * half;
    for_vectors(half, [&](int64_t i, auto lanes) {  // the angles are loaded once for all heads
      const F c = load(cos_row + i, lanes), s = mul(sign, load(sin_row + i, lanes));
      T* first = x + t * x_stride + i;
      for (int64_t h = 0; h < num_heads; ++h, first += head_dim) {
        const F a = load(first, lanes), b = load(first + half, lanes);
        store(first, sub(mul(a, c), mul(b, s)), lanes);
        store(first + half, add(mul(b, c), mul(a, s)), lanes);
      }
    });
  }
}

template void Rope<kLevel>::apply<float>(float*, int64_t, int64_t, int64_t, const float*, const float*, const int32_t*,
                                         float, int64_t, int64_t);
template void Rope<kLevel>::apply<Bf16>(Bf16*, int64_t, int64_t, int64_t, const float*, const float*, const int32_t*,
                                        float, int64_t, int64_t);

}  // namespace slmi::kernels::cpu::detail
