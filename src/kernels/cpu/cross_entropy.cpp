// Cross-entropy and greedy picking: reference and choice of level.
#include "slmi/kernels/cpu/cross_entropy.h"

#include <cmath>
#include <limits>

#include "levels.h"
#include "scalar.h"

namespace slmi::kernels::cpu {

namespace detail {

template <>
template <class T>
float CrossEntropy<SimdLevel::Scalar>::lse(const T* logits, int64_t vocabulary) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float top = -kInfinity;
  for (int64_t v = 0; v < vocabulary; ++v) top = std::fmax(top, to_f32(logits[v]));  // passes over NaN: exp meets it
  if (top == -kInfinity) top = 0.0f;
  // Blocks, because one f32 sum of 128k terms loses three digits.
  constexpr int64_t kBlock = 1024;
  float sum = 0.0f;
  for (int64_t b = 0; b < vocabulary; b += kBlock) {
    float part = 0.0f;
    for (int64_t v = b; v < vocabulary && v < b + kBlock; ++v) part += std::exp(to_f32(logits[v]) - top);
    sum += part;
  }
  return top + std::log(sum);
}

template <>
template <class T>
void CrossEntropy<SimdLevel::Scalar>::gradient(T* logits, int64_t vocabulary, int32_t target, float lse, float scale) {
  for (int64_t v = 0; v < vocabulary; ++v) {
    const float p = std::exp(to_f32(logits[v]) - lse);
    logits[v] = from_f32<T>((v == target ? p - 1.0f : p) * scale);
  }
}

template <>
template <class T>
int32_t CrossEntropy<SimdLevel::Scalar>::argmax(const T* logits, int64_t vocabulary, const uint64_t* allowed) {
  int32_t best = -1;
  float top = 0.0f;
  for (int64_t v = 0; v < vocabulary; ++v) {
    if (allowed != nullptr && ((allowed[v / 64] >> (v % 64)) & 1u) == 0) continue;
    const float x = to_f32(logits[v]);
    if (std::isnan(x) || (best >= 0 && x <= top)) continue;
    best = static_cast<int32_t>(v);
    top = x;
  }
  return best;
}

// The vector versions fall back on it.
template int32_t CrossEntropy<SimdLevel::Scalar>::argmax<float>(const float*, int64_t, const uint64_t*);
template int32_t CrossEntropy<SimdLevel::Scalar>::argmax<Bf16>(const Bf16*, int64_t, const uint64_t*);

}  // namespace detail

using detail::at_level;
using detail::CrossEntropy;
using detail::to_f32;

template <class T>
void cross_entropy_loss(const T* logits, int64_t stride, int64_t vocabulary, const int32_t* targets, float* loss,
                        float* lse, int64_t begin, int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    for (int64_t p = begin; p < end; ++p) {
      const T* row = logits + p * stride;
      const float total = CrossEntropy<L>::template lse<T>(row, vocabulary);
      loss[p] = total - to_f32(row[targets[p]]);
      if (lse != nullptr) lse[p] = total;
    }
  });
}

template <class T>
void cross_entropy_gradient(T* logits, int64_t stride, int64_t vocabulary, const int32_t* targets, float scale,
                            float* loss, float* lse, int64_t begin, int64_t end, SimdLevel level) {
  at_level(level, [&]<SimdLevel L> {
    for (int64_t p = begin; p < end; ++p) {
      T* row = logits + p * stride;
      const float total = CrossEntropy<L>::template lse<T>(row, vocabulary);
      loss[p] = total - to_f32(row[targets[p]]);
      if (lse != nullptr) lse[p] = total;
      CrossEntropy<L>::template gradient<T>(row, vocabulary, targets[p], total, scale);
    }
  });
}

template <class T>
Picked pick(const T* logits, int64_t vocabulary, const uint64_t* allowed, SimdLevel level) {
  return at_level(level, [&]<SimdLevel L> {
    Picked picked;
    picked.id = CrossEntropy<L>::template argmax<T>(logits, vocabulary, allowed);
    if (picked.id >= 0) {
      picked.log_probability = to_f32(logits[picked.id]) - CrossEntropy<L>::template lse<T>(logits, vocabulary);
    }
    return picked;
  });
}

#define SLMI_INSTANTIATE(T)                                                                                         \
  template void cross_entropy_loss<T>(const T*, int64_t, int64_t, const int32_t*, float*, float*, int64_t, int64_t, \
                                      SimdLevel);                                                                   \
  template void cross_entropy_gradient<T>(T*, int64_t, int64_t, const int32_t*, float, float*, float*, int64_t,     \
                                          int64_t, SimdLevel);                                                      \
  template Picked pick<T>(const T*, int64_t, const uint64_t*, SimdLevel);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu
