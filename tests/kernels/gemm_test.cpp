// The packed product against f64, at every size that its tiles and panels treat apart.
#include "slmi/kernels/cpu/gemm.h"

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

class GemmTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    use_ = parse_simd(GetParam());
    if (!simd_supports(detect_simd(), use_)) GTEST_SKIP() << "this CPU has no " << GetParam();
  }

  void check(int64_t m, int64_t n, int64_t k, int64_t tail_k) {
    const int64_t whole = k + tail_k, a_stride = k + 3, tail_stride = tail_k + 1, b_stride = whole + 5,
                  y_stride = n + 2;
    const auto a = random_rows<Bf16>(m, k, a_stride, 61), tail = random_rows<Bf16>(m, tail_k, tail_stride, 62);
    const auto b = random_rows<Bf16>(n, whole, b_stride, 63);  // B transposed: [n, k]
    std::vector<Bf16> packed(static_cast<size_t>(gemm_packed_elements(whole, n)), Bf16{0});
    gemm_pack(b.data(), 1, b_stride, {0, whole, 0, n}, whole, packed.data());
    Guarded<Bf16> y(m * y_stride);
    GemmRows rows{a.data(), a_stride, k};
    if (tail_k > 0) rows = {a.data(), a_stride, k, tail.data(), tail_stride, tail_k};
    const int64_t cut = m / 3, panels = gemm_panels(n), half = panels / 2;
    gemm(rows, packed.data(), n, y.data(), y_stride, 0, cut, 0, panels, use_);
    gemm(rows, packed.data(), n, y.data(), y_stride, cut, m, 0, half, use_);
    gemm(rows, packed.data(), n, y.data(), y_stride, cut, m, half, panels, use_);
    ASSERT_TRUE(only_rows_written(y, n, y_stride)) << m << "x" << n << "x" << k << "+" << tail_k;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        double want = 0.0, magnitude = 0.0;
        for (int64_t i = 0; i < whole; ++i) {
          const Bf16 x = i < k ? a[r * a_stride + i] : tail[r * tail_stride + i - k];
          const double product = static_cast<double>(to_float(x)) * static_cast<double>(to_float(b[c * b_stride + i]));
          want += product;
          magnitude += std::fabs(product);
        }
        ASSERT_NEAR(to_float(y[r * y_stride + c]), want,
                    unit_roundoff<Bf16>() * std::fabs(want) + static_cast<double>(whole) * 0x1p-23 * magnitude)
            << m << "x" << n << "x" << k << "+" << tail_k << " at " << r << ", " << c;
      }
    }
  }

  Simd use_;
};

TEST_P(GemmTest, EqualsF64) {
  for (const int64_t m : {1, 2, 3, 5, 7, 11, 12, 13, 16, 17, 24, 29, 32, 37})
    for (const int64_t n : {1, 16, 31, 32, 33, 70})
      for (const int64_t k : {2, 16, 34, 64}) check(m, n, k, 0);
  for (const int64_t m : {1, 12, 31, 33}) check(m, 48, 32, 16);
  check(45, 40, 70, 34);
  check(300, 40, 1200, 32);  // more rows than one block of them
}

TEST_P(GemmTest, PartOfAPackedMatrixChangesInPlace) {
  constexpr int64_t kK = 20, kN = 40;
  auto b = random_rows<Bf16>(kK, kN, kN, 71);
  const auto changed = random_rows<Bf16>(6, 9, 9, 72);
  std::vector<Bf16> packed(static_cast<size_t>(gemm_packed_elements(kK, kN)), Bf16{0}), want = packed;
  gemm_pack(b.data(), kN, 1, {0, kK, 0, kN}, kK, packed.data());
  gemm_pack(changed.data(), 9, 1, {13, 19, 27, 36}, kK, packed.data());  // halves of pairs at both ends
  for (int64_t i = 0; i < 6; ++i)
    for (int64_t j = 0; j < 9; ++j) b[(13 + i) * kN + 27 + j] = changed[i * 9 + j];
  std::vector<Bf16> transposed(kK * kN);
  for (int64_t i = 0; i < kK; ++i)
    for (int64_t j = 0; j < kN; ++j) transposed[static_cast<size_t>(j * kK + i)] = b[i * kN + j];
  gemm_pack(transposed.data(), 1, kK, {0, kK, 0, kN}, kK, want.data());
  EXPECT_EQ(std::memcmp(packed.data(), want.data(), packed.size() * sizeof(Bf16)), 0);
}

std::string path_name(const ::testing::TestParamInfo<const char*>& info) {
  return std::vector<std::string>{"Scalar", "Avx512Bf16", "Amx"}.at(info.index);
}

INSTANTIATE_TEST_SUITE_P(Paths, GemmTest, ::testing::Values("scalar", "avx512+bf16", "avx512+bf16+amx"), path_name);

}  // namespace
}  // namespace slmi::kernels::cpu
