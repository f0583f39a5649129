// Dropout by counter: reference and choice of level.
#include "slmi/kernels/cpu/dropout.h"

#include <algorithm>

#include "levels.h"
#include "scalar.h"
#include "slmi/base/random.h"

namespace slmi::kernels::cpu {

namespace detail {

template <>
template <class T>
void Dropout<SimdLevel::Scalar>::apply(const T* x, int64_t x_stride, const DropoutNumbers& numbers,
                                       const uint64_t* row_keys, const int32_t* positions, int64_t width, T* out,
                                       int64_t out_stride, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t c0 = 0; c0 < width; c0 += 8) {
      const auto words = philox4x32({static_cast<uint32_t>(c0 / 8), static_cast<uint32_t>(positions[t]),
                                     static_cast<uint32_t>(row_keys[t]), static_cast<uint32_t>(row_keys[t] >> 32)},
                                    {numbers.key0, numbers.key1});
      for (int64_t c = c0; c < std::min(width, c0 + 8); ++c) {
        const uint32_t word = words[static_cast<size_t>((c - c0) / 2)];
        const uint32_t draw = (c % 2 == 0) ? word & 0xffffu : word >> 16;
        const float kept = to_f32(x[t * x_stride + c]) * numbers.scale;
        out[t * out_stride + c] = from_f32<T>(draw >= numbers.threshold ? kept : 0.0f);
      }
    }
  }
}

namespace {

DropoutNumbers mix(const DropoutKey& key) {
  uint64_t state = key.seed;
  state = splitmix64(state) ^ static_cast<uint64_t>(key.step);
  state = splitmix64(state) ^ key.site;
  const uint64_t mixed = splitmix64(state);
  const uint32_t threshold = dropout_threshold(key.probability);
  return {static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32), threshold,
          static_cast<float>(65536.0 / (65536.0 - threshold))};
}

}  // namespace

}  // namespace detail

template <class T>
void apply_dropout(const T* x, int64_t x_stride, const DropoutKey& key, const uint64_t* row_keys,
                   const int32_t* positions, int64_t width, T* out, int64_t out_stride, int64_t begin, int64_t end,
                   SimdLevel level) {
  const detail::DropoutNumbers numbers = detail::mix(key);
  detail::at_level(level, [&]<SimdLevel L> {
    detail::Dropout<L>::template apply<T>(x, x_stride, numbers, row_keys, positions, width, out, out_stride, begin,
                                          end);
  });
}

#define SLMI_INSTANTIATE(T)                                                                                          \
  template void apply_dropout<T>(const T*, int64_t, const DropoutKey&, const uint64_t*, const int32_t*, int64_t, T*, \
                                 int64_t, int64_t, int64_t, SimdLevel);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu
