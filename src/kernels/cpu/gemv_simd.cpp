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

/// Rows of x that go over a block of weights at once; those that follow find the weights in L1.
constexpr int kRowsAtOnce = 4;

/// Weight rows a block: sums, weights and one x must fit the registers; with one row many streams keep the memory busy.
constexpr int weight_rows(int m) {
  const int fitting = (kRegisters - 1) / (m + 1);
  return m == 1 ? 8 : fitting < 4 ? fitting : 4;
}

/// Fetches what lies `distance` elements further: the same place in the next block of weight rows. The rows are too
/// short for the hardware to see where they go on. May point past the matrix; a prefetch cannot fault.
template <class W>
inline void prefetch(const W* at, int64_t distance) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(distance) * sizeof(W);
  __builtin_prefetch(reinterpret_cast<const void*>(address));  // NOLINT(performance-no-int-to-ptr)
}

/// Whether a pass over a block of weights also fetches the next block.
enum class Next { Fetch, Leave };

template <int M, int N, Next next, class X, class W, class Y>
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
          if constexpr (next == Next::Fetch) prefetch(w + n * w_stride + i, N * w_stride);
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

/// All rows of x over columns [begin, end), `kBlock` weight rows at a time. Each element's sum is made in the same
/// order whatever the number of rows.
template <int kBlock, class X, class W, class Y>
void columns(const X* x, int64_t x_stride, int64_t num_rows, const W* w, int64_t w_stride, int64_t k, Y* y,
             int64_t y_stride, int64_t begin, int64_t end) {
  const auto rest = [&]<int N, Next next>(int64_t n, int64_t m) __attribute__((always_inline)) {
    const X* from = x + m * x_stride;
    Y* to = y + m * y_stride + n;
    switch (num_rows - m) {
      case 1:
        return block<1, N, next>(from, x_stride, w + n * w_stride, w_stride, k, to, y_stride);
      case 2:
        return block<2, N, next>(from, x_stride, w + n * w_stride, w_stride, k, to, y_stride);
      case 3:
        return block<3, N, next>(from, x_stride, w + n * w_stride, w_stride, k, to, y_stride);
      default:
        return;
    }
  };
  const auto all_rows = [&]<int N>(int64_t n) __attribute__((always_inline)) {
    if (num_rows < kRowsAtOnce) return rest.template operator()<N, Next::Fetch>(n, 0);
    block<kRowsAtOnce, N, Next::Fetch>(x, x_stride, w + n * w_stride, w_stride, k, y + n, y_stride);
    int64_t m = kRowsAtOnce;
    for (; m + kRowsAtOnce <= num_rows; m += kRowsAtOnce)
      block<kRowsAtOnce, N, Next::Leave>(x + m * x_stride, x_stride, w + n * w_stride, w_stride, k,
                                         y + m * y_stride + n, y_stride);
    rest.template operator()<N, Next::Leave>(n, m);
  };
  int64_t n = begin;
  for (; n + kBlock <= end; n += kBlock) all_rows.template operator()<kBlock>(n);
  for (; n < end; ++n) all_rows.template operator()<1>(n);
}

}  // namespace

template <>
template <class X, class W, class Y>
void Gemv<kLevel>::run(const X* x, int64_t x_stride, int64_t num_rows, const W* w, int64_t w_stride, int64_t k, Y* y,
                       int64_t y_stride, int64_t begin, int64_t end) {
  if (num_rows == 1) return columns<weight_rows(1)>(x, x_stride, 1, w, w_stride, k, y, y_stride, begin, end);
  columns<weight_rows(kRowsAtOnce)>(x, x_stride, num_rows, w, w_stride, k, y, y_stride, begin, end);
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
