// Cross-entropy and greedy picking in vectors.
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

namespace {

constexpr float kInfinity = __builtin_inff();
/// Logits a block: read twice, for the maximum and for the sum, so they should stay in L1. Also keeps the sums short.
constexpr int64_t kBlock = 2048;

inline int64_t shorter(int64_t a, int64_t b) {
  return a < b ? a : b;
}

template <class T>
inline float block_greatest(const T* logits, int64_t n) {
  F top = all(-kInfinity);
  for_vectors(n, [&](int64_t i, auto lanes) {
    const F x = load(logits + i, lanes);
    top = max(first_of(n - i, x, all(-kInfinity)), top);  // NaN is passed over
  });
  return greatest(top);
}

/// Index of the first logit equal to `wanted`, which is among them.
template <class T>
inline int64_t find(const T* logits, int64_t n, float wanted) {
  for (int64_t v = 0; v < n; ++v) {
    float x;
    if constexpr (sizeof(T) == 4) {
      x = logits[v];
    } else {
      x = __builtin_bit_cast(float, static_cast<uint32_t>(logits[v].bits) << 16);
    }
    if (x == wanted) return v;
  }
  return -1;
}

}  // namespace

template <>
template <class T>
float CrossEntropy<kLevel>::lse(const T* logits, int64_t vocabulary) {
  float top = -kInfinity, total = 0.0f;
  for (int64_t b = 0; b < vocabulary; b += kBlock) {
    const T* block = logits + b;
    const int64_t n = shorter(kBlock, vocabulary - b);
    const float block_top = block_greatest(block, n);
    if (block_top > top) {
      total *= sum(first_of(1, exp(all(top - block_top)), zero()));
      top = block_top;
    }
    const F shift = all(top == -kInfinity ? 0.0f : top);
    F sums[2] = {zero(), zero()};
    int64_t i = 0;
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      sums[0] = add(sums[0], exp(sub(load(block + i), shift)));
      sums[1] = add(sums[1], exp(sub(load(block + i + kLanes), shift)));
    }
    for_vectors(n - i, [&](int64_t j, auto lanes) {
      const F e = exp(sub(load(block + i + j, lanes), shift));
      sums[0] = add(sums[0], first_of(n - i - j, e, zero()));
    });
    total += sum(add(sums[0], sums[1]));
  }
  return (top == -kInfinity ? 0.0f : top) + __builtin_logf(total);
}

template <>
template <class T>
void CrossEntropy<kLevel>::gradient(T* logits, int64_t vocabulary, int32_t target, float lse, float scale) {
  const F shift = all(lse), factor = all(scale);
  const F at_target = load(logits + target, First{1});  // kept: the row is overwritten
  for_vectors(vocabulary, [&](int64_t v, auto lanes) {
    store(logits + v, mul(exp(sub(load(logits + v, lanes), shift)), factor), lanes);
  });
  store(logits + target, mul(sub(exp(sub(at_target, shift)), all(1.0f)), factor), First{1});
}

template <>
template <class T>
int32_t CrossEntropy<kLevel>::argmax(const T* logits, int64_t vocabulary, const uint64_t* allowed) {
  // A set of allowed tokens is mostly small, and then the scalar walk over its bits is the fast way.
  if (allowed != nullptr) return CrossEntropy<SimdLevel::Scalar>::argmax<T>(logits, vocabulary, allowed);
  float top = -kInfinity;
  int64_t best = -1;
  for (int64_t b = 0; b < vocabulary; b += kBlock) {
    const int64_t n = shorter(kBlock, vocabulary - b);
    const float block_top = block_greatest(logits + b, n);
    if (best >= 0 ? block_top <= top : block_top == -kInfinity) continue;
    best = b;
    top = block_top;
  }
  // Only -inf and NaN: the reference tells which.
  if (best < 0) return CrossEntropy<SimdLevel::Scalar>::argmax<T>(logits, vocabulary, nullptr);
  return static_cast<int32_t>(best + find(logits + best, shorter(kBlock, vocabulary - best), top));
}

#define SLMI_INSTANTIATE(T)                                                            \
  template float CrossEntropy<kLevel>::lse<T>(const T*, int64_t);                      \
  template void CrossEntropy<kLevel>::gradient<T>(T*, int64_t, int32_t, float, float); \
  template int32_t CrossEntropy<kLevel>::argmax<T>(const T*, int64_t, const uint64_t*);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu::detail
