// Few rows times a matrix: every level against f64 with the error bound of f32 sums.
#include "slmi/kernels/cpu/gemv.h"

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

class GemvTest : public LevelTest {
 protected:
  template <class X, class W, class Y>
  void check(int64_t m, int64_t n, int64_t k) {
    const int64_t x_stride = k + 3, w_stride = k + 5, y_stride = n + 2;
    const auto x = random_rows<X>(m, k, x_stride, 51);
    const auto w = random_rows<W>(n, k, w_stride, 52);
    Guarded<Y> y(m * y_stride);
    const int64_t cut = n / 3;
    gemv(x.data(), x_stride, m, w.data(), w_stride, k, y.data(), y_stride, 0, cut, GetParam());
    gemv(x.data(), x_stride, m, w.data(), w_stride, k, y.data(), y_stride, cut, n, GetParam());
    ASSERT_TRUE(only_rows_written(y, n, y_stride)) << m << "x" << n << "x" << k;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        double want = 0.0, magnitude = 0.0;
        for (int64_t i = 0; i < k; ++i) {
          const double product =
              static_cast<double>(to_float(x[r * x_stride + i])) * static_cast<double>(to_float(w[c * w_stride + i]));
          want += product;
          magnitude += std::fabs(product);
        }
        ASSERT_NEAR(to_float(y[r * y_stride + c]), want,
                    unit_roundoff<Y>() * std::fabs(want) + static_cast<double>(k) * 0x1p-23 * magnitude)
            << m << "x" << n << "x" << k;
      }
    }
  }
};

TEST_P(GemvTest, EqualsF64) {
  for (const int64_t m : {1, 2, 3, 4, 5, 7, 8, 9, 13}) {
    for (const int64_t n : {1, 2, 7, 8, 9, 17}) {
      for (const int64_t k : {1, 8, 15, 16, 17, 33, 576}) {
        check<float, float, float>(m, n, k);
        check<float, Bf16, float>(m, n, k);
        check<Bf16, float, float>(m, n, k);
        check<Bf16, Bf16, float>(m, n, k);
      }
    }
    check<float, float, Bf16>(m, 11, 50);
    check<float, Bf16, Bf16>(m, 11, 50);
    check<Bf16, float, Bf16>(m, 11, 50);
    check<Bf16, Bf16, Bf16>(m, 11, 50);
  }
}

TEST_P(GemvTest, ARowDoesNotDependOnTheRowsBesideIt) {
  constexpr int64_t kRows = 11, kColumns = 19, kK = 83;
  const auto x = random_rows<float>(kRows, kK, kK, 53);
  const auto w = random_rows<float>(kColumns, kK, kK, 54);
  std::vector<float> together(kRows * kColumns), alone(kColumns);
  gemv(x.data(), kK, kRows, w.data(), kK, kK, together.data(), kColumns, 0, kColumns, GetParam());
  for (int64_t m = 0; m < kRows; ++m) {
    gemv(x.data() + m * kK, kK, 1, w.data(), kK, kK, alone.data(), kColumns, 0, kColumns, GetParam());
    for (int64_t n = 0; n < kColumns; ++n)
      ASSERT_EQ(together[static_cast<size_t>(m * kColumns + n)], alone[static_cast<size_t>(n)]) << m << " " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, GemvTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
