// Rotary position embedding: reference and choice of level.
#include "slmi/kernels/cpu/rope.h"

#include "levels.h"
#include "scalar.h"

namespace slmi::kernels::cpu {

namespace detail {

template <>
template <class T>
void Rope<SimdLevel::Scalar>::apply(T* x, int64_t x_stride, int64_t num_heads, int64_t head_dim, const float* cos,
                                    const float* sin, const int32_t* positions, float sin_sign, int64_t begin,
                                    int64_t end) {
  const int64_t half = head_dim / 2;
  for (int64_t t = begin; t < end; ++t) {
    const float* c = cos + positions[t] * half;
    const float* s = sin + positions[t] * half;
    for (int64_t h = 0; h < num_heads; ++h) {
      T* head = x + t * x_stride + h * head_dim;
      for (int64_t i = 0; i < half; ++i) {
        const float a = to_f32(head[i]), b = to_f32(head[i + half]);
        head[i] = from_f32<T>(a * c[i] - b * (sin_sign * s[i]));
        head[i + half] = from_f32<T>(b * c[i] + a * (sin_sign * s[i]));
      }
    }
  }
}

}  // namespace detail

template <class T>
void rope_apply(T* x, int64_t x_stride, int64_t num_heads, int64_t head_dim, const float* cos, const float* sin,
                const int32_t* positions, RopeDirection direction, int64_t begin, int64_t end, SimdLevel level) {
  const float sin_sign = direction == RopeDirection::Forward ? 1.0f : -1.0f;
  detail::at_level(level, [&]<SimdLevel L> {
    detail::Rope<L>::template apply<T>(x, x_stride, num_heads, head_dim, cos, sin, positions, sin_sign, begin, end);
  });
}

#define SLMI_INSTANTIATE(T)                                                                              \
  template void rope_apply<T>(T*, int64_t, int64_t, int64_t, const float*, const float*, const int32_t*, \
                              RopeDirection, int64_t, int64_t, SimdLevel);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu
