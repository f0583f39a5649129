// Few rows times a big matrix in vectors: a block of weight rows against all rows of x.
#include "levels.h"
#include "vec.h"

namespace slmi::kernels::cpu::detail {

namespace {

#if defined(__AVX512F__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

/// Rows of x that go over a block of weights at once; more of them take a second pass, with the weights in L1 by then.
constexpr int kRowsAtOnce = 4;

/// Weight rows a block: sums + weights + one x must fit the registers; many streams keep the memory busy.
constexpr int weight_rows(int m) {
  const int fitting = (kRegisters - 4) / (m + 1);
  return m == 1 ? 8 : fitting < 4 ? fitting : 4;
}

/// Fetches what lies `distance` elements further: the same place in the next block of weight rows. The rows are too
/// short for the hardware to see where they go on. May point past the matrix; a prefetch cannot fault.
template <class W>
inline void prefetch(const W* at, int64_t distance) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(distance) * sizeof(W);
  __builtin_prefetch(reinterpret_cast<const void*>(address));  // NOLINT(performance-no-int-to-ptr)
}

template <int M, int N, class X, class W, class Y>
inline void block(const X* x, int64_t x_stride, const W* w, int64_t w_stride, int64_t k, Y* y, int64_t y_stride) {
  F sums[N][M];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) sums[n][m] = zero();
  }
  for_vectors(
      k, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
        F weights[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          weights[n] = load(w + n * w_stride + i, lanes);
          prefetch(w + n * w_stride + i, N * w_stride);
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          const F a = load(x + m * x_stride + i, lanes);
#pragma GCC unroll 8
          for (int n = 0; n < N; ++n) sums[n][m] = fma(a, weights[n], sums[n][m]);
        }
      });
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) store(y + m * y_stride + n, all(sum(sums[n][m])), First{1});
  }
}

template <int M, class X, class W, class Y>
void columns(const X* x, int64_t x_stride, const W* w, int64_t w_stride, int64_t k, Y* y, int64_t y_stride,
             int64_t begin, int64_t end) {
  constexpr int kFirst = M < kRowsAtOnce ? M : kRowsAtOnce, kBlock = weight_rows(kFirst);
  const auto blocks = [&]<int N>(int64_t n) {
    const W* weights = w + n * w_stride;
    block<kFirst, N>(x, x_stride, weights, w_stride, k, y + n, y_stride);
    if constexpr (M > kFirst) {
      block<M - kFirst, N>(x + kFirst * x_stride, x_stride, weights, w_stride, k, y + kFirst * y_stride + n, y_stride);
    }
  };
  int64_t n = begin;
  for (; n + kBlock <= end; n += kBlock) blocks.template operator()<kBlock>(n);
  for (; n < end; ++n) blocks.template operator()<1>(n);
}

}  // namespace

template <>
template <class X, class W, class Y>
void Gemv<kLevel>::run(const X* x, int64_t x_stride, int64_t num_rows, const W* w, int64_t w_stride, int64_t k, Y* y,
                       int64_t y_stride, int64_t begin, int64_t end) {
  switch (num_rows) {
    case 1:
      return columns<1>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
    case 2:
      return columns<2>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
    case 3:
      return columns<3>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
    case 4:
      return columns<4>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
    case 5:
      return columns<5>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
    case 6:
      return columns<6>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
    case 7:
      return columns<7>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
    default:
      return columns<8>(x, x_stride, w, w_stride, k, y, y_stride, begin, end);
  }
}

#define SLMI_INSTANTIATE(X, W, Y)                                                                               \
  template void Gemv<kLevel>::run<X, W, Y>(const X*, int64_t, int64_t, const W*, int64_t, int64_t, Y*, int64_t, \
                                           int64_t, int64_t);
SLMI_INSTANTIATE(float, float, float)
SLMI_INSTANTIATE(float, Bf16, float)
SLMI_INSTANTIATE(Bf16, float, float)
SLMI_INSTANTIATE(Bf16, Bf16, float)
SLMI_INSTANTIATE(float, float, Bf16)
SLMI_INSTANTIATE(float, Bf16, Bf16)
SLMI_INSTANTIATE(Bf16, float, Bf16)
SLMI_INSTANTIATE(Bf16, Bf16, Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu::detail
