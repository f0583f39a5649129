// RMSNorm, its gradient and the residual stream: every level against f64.
#include "slmi/kernels/cpu/rms_norm.h"

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

constexpr int64_t kRows = 3;
constexpr float kEps = 1e-5f;

double reference_rstd(const float* x, int64_t width) {
  double sum = 0.0;
  for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return 1.0 / std::sqrt(sum / static_cast<double>(width) + static_cast<double>(kEps));
}

class RmsNormTest : public LevelTest {
 protected:
  template <class T>
  void forward(int64_t width) {
    const int64_t stride = width + 5;
    const auto x = random_rows<float>(kRows, width, width, 1);
    const auto weight = random_rows<float>(1, width, width, 2);
    Guarded<T> out(kRows * stride);
    Guarded<float> rstd(kRows);
    rms_norm_forward(x.data(), weight.data(), kEps, width, out.data(), stride, rstd.data(), 0, 1, GetParam());
    rms_norm_forward(x.data(), weight.data(), kEps, width, out.data(), stride, rstd.data(), 1, kRows, GetParam());
    ASSERT_TRUE(only_rows_written(out, width, stride)) << width;
    for (int64_t t = 0; t < kRows; ++t) {
      const double r = reference_rstd(x.data() + t * width, width);
      // The sum's rounding, halved by the root: at most width / 2 units for the plain loop.
      const double sum_error = 0.5 * static_cast<double>(width) * 0x1p-24;
      ASSERT_NEAR(rstd[t] / r, 1.0, sum_error + 4 * 0x1p-24) << width;
      for (int64_t i = 0; i < width; ++i) {
        const double want = static_cast<double>(x[t * width + i]) * r * static_cast<double>(weight[i]);
        ASSERT_NEAR(to_float(out[t * stride + i]), want,
                    std::fabs(want) * (unit_roundoff<T>() + sum_error + 8 * 0x1p-24) + 1e-38)
            << "width " << width << " row " << t << " column " << i;
      }
    }
  }

  template <class T>
  void backward(int64_t width) {
    const int64_t stride = width + 3;
    const auto x = random_rows<float>(kRows, width, width, 3);
    const auto weight = random_rows<float>(1, width, width, 4);
    const auto dy = random_rows<T>(kRows, width, stride, 5);
    const auto before = random_rows<float>(kRows, width, width, 6);
    auto dx = before;
    Guarded<float> rstd(kRows);
    for (int64_t t = 0; t < kRows; ++t) rstd[t] = static_cast<float>(reference_rstd(x.data() + t * width, width));
    rms_norm_backward(dy.data(), stride, x.data(), weight.data(), rstd.data(), width, dx.data(), 0, kRows, GetParam());
    ASSERT_TRUE(dx.guards_intact());
    // Against central differences in f64 of L(x) = sum(dy * out(x)).
    const auto loss = [&](int64_t t, int64_t at, double shift) {
      double squares = 0.0, dots = 0.0;
      for (int64_t i = 0; i < width; ++i) {
        const double v = static_cast<double>(x[t * width + i]) + (i == at ? shift : 0.0);
        squares += v * v;
        dots += v * static_cast<double>(weight[i]) * static_cast<double>(to_float(dy[t * stride + i]));
      }
      return dots / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(kEps));
    };
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < width; i += 1 + width / 40) {
        const double h = 1e-5;
        const double want = (loss(t, i, h) - loss(t, i, -h)) / (2 * h);
        const double got = static_cast<double>(dx[t * width + i]) - static_cast<double>(before[t * width + i]);
        ASSERT_NEAR(got, want, 2e-5 * (1.0 + std::fabs(want))) << "width " << width << " row " << t << " column " << i;
      }
    }
  }

  template <class T>
  void residual(int64_t width) {
    const int64_t stride = width + 2;
    const auto hidden = random_rows<float>(kRows, width, width, 7);
    const auto y = random_rows<T>(kRows, width, stride, 8);
    const auto weight = random_rows<float>(1, width, width, 9);
    Guarded<float> sum(kRows * width), fused_sum(kRows * width), rstd(kRows), fused_rstd(kRows);
    Guarded<T> out(kRows * stride), fused_out(kRows * stride);
    add_to_residual(hidden.data(), y.data(), stride, width, sum.data(), 0, kRows, GetParam());
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < width; ++i) {
        ASSERT_EQ(sum[t * width + i], hidden[t * width + i] + to_float(y[t * stride + i]));
      }
    }
    rms_norm_forward(sum.data(), weight.data(), kEps, width, out.data(), stride, rstd.data(), 0, kRows, GetParam());
    add_rms_norm_forward(hidden.data(), y.data(), stride, weight.data(), kEps, width, fused_sum.data(),
                         fused_out.data(), stride, fused_rstd.data(), 0, kRows, GetParam());
    EXPECT_TRUE(equal_bits(fused_sum, sum));
    EXPECT_TRUE(equal_bits(fused_out, out));
    EXPECT_TRUE(equal_bits(fused_rstd, rstd));
    auto in_place = hidden;
    add_to_residual(in_place.data(), y.data(), stride, width, in_place.data(), 0, kRows, GetParam());
    EXPECT_TRUE(equal_bits(in_place, sum));
  }
};

TEST_P(RmsNormTest, ForwardEqualsF64) {
  for (const int64_t width : test_widths()) {
    forward<float>(width);
    forward<Bf16>(width);
  }
}

TEST_P(RmsNormTest, BackwardEqualsFiniteDifferences) {
  for (const int64_t width : test_widths()) {
    backward<float>(width);
    backward<Bf16>(width);
  }
}

TEST_P(RmsNormTest, FusedResidualEqualsTheTwoSteps) {
  for (const int64_t width : test_widths()) {
    residual<float>(width);
    residual<Bf16>(width);
  }
}

TEST_P(RmsNormTest, RstdMayBeNull) {
  const auto x = random_rows<float>(1, 20, 20, 10);
  Guarded<float> out(20);
  rms_norm_forward(x.data(), x.data(), kEps, 20, out.data(), 20, static_cast<float*>(nullptr), 0, 1, GetParam());
  EXPECT_TRUE(only_rows_written(out, 20, 20));
}

INSTANTIATE_TEST_SUITE_P(Levels, RmsNormTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
