// SwiGLU and its gradient: every level against f64 and finite differences.
#include "slmi/kernels/cpu/swiglu.h"

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

constexpr int64_t kRows = 3;

double silu(double x) {
  return x / (1.0 + std::exp(-x));
}

class SwigluTest : public LevelTest {
 protected:
  template <class T>
  void forward(int64_t width) {
    const int64_t stride = 2 * width + 3, out_stride = width + 4;
    const auto x = random_rows<T>(kRows, 2 * width, stride, 21, 4.0);
    Guarded<T> out(kRows * out_stride);
    swiglu_forward(x.data(), stride, width, out.data(), out_stride, 0, 1, GetParam());
    swiglu_forward(x.data(), stride, width, out.data(), out_stride, 1, kRows, GetParam());
    ASSERT_TRUE(only_rows_written(out, width, out_stride));
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < width; ++i) {
        const double want = silu(static_cast<double>(to_float(x[t * stride + i]))) *
                            static_cast<double>(to_float(x[t * stride + width + i]));
        // exp 2 ulp, then four roundings.
        ASSERT_NEAR(to_float(out[t * out_stride + i]), want,
                    std::fabs(want) * (unit_roundoff<T>() + 8 * 0x1p-24) + 1e-37)
            << width;
      }
    }
  }

  template <class T>
  void backward(int64_t width) {
    const int64_t stride = 2 * width + 3, out_stride = width + 4;
    const auto x = random_rows<T>(kRows, 2 * width, stride, 22, 3.0);
    const auto d = random_rows<T>(kRows, width, out_stride, 23);
    Guarded<T> dx(kRows * stride), activation(kRows * out_stride), forward_out(kRows * out_stride);
    swiglu_backward(x.data(), stride, d.data(), out_stride, width, dx.data(), stride, activation.data(), out_stride, 0,
                    kRows, GetParam());
    ASSERT_TRUE(only_rows_written(dx, 2 * width, stride));
    ASSERT_TRUE(only_rows_written(activation, width, out_stride));
    swiglu_forward(x.data(), stride, width, forward_out.data(), out_stride, 0, kRows, GetParam());
    EXPECT_TRUE(equal_bits(activation, forward_out));
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < width; ++i) {
        const double gate = static_cast<double>(to_float(x[t * stride + i]));
        const double up = static_cast<double>(to_float(x[t * stride + width + i]));
        const double g = static_cast<double>(to_float(d[t * out_stride + i])), h = 1e-6;
        const double d_gate = g * up * (silu(gate + h) - silu(gate - h)) / (2 * h), d_up = g * silu(gate);
        const double slack = 1e-8 + 16 * 0x1p-24 * std::fabs(g * up);
        ASSERT_NEAR(to_float(dx[t * stride + i]), d_gate, std::fabs(d_gate) * unit_roundoff<T>() + slack) << width;
        ASSERT_NEAR(to_float(dx[t * stride + width + i]), d_up,
                    std::fabs(d_up) * (unit_roundoff<T>() + 8 * 0x1p-24) + 1e-37)
            << width;
      }
    }
    // In place over gate_up, and the activation over d_out: the same bits.
    auto in_place = x;
    auto d_in_place = d;
    swiglu_backward(in_place.data(), stride, d_in_place.data(), out_stride, width, in_place.data(), stride,
                    d_in_place.data(), out_stride, 0, kRows, GetParam());
    EXPECT_TRUE(equal_bits(in_place, dx));
    EXPECT_TRUE(equal_bits(d_in_place, activation));
    Guarded<T> alone(kRows * stride);
    swiglu_backward(x.data(), stride, d.data(), out_stride, width, alone.data(), stride, static_cast<T*>(nullptr), 0, 0,
                    kRows, GetParam());
    EXPECT_TRUE(equal_bits(alone, dx));
  }
};

TEST_P(SwigluTest, ForwardEqualsF64) {
  for (const int64_t width : test_widths()) {
    forward<float>(width);
    forward<Bf16>(width);
  }
}

TEST_P(SwigluTest, BackwardEqualsFiniteDifferences) {
  for (const int64_t width : test_widths()) {
    backward<float>(width);
    backward<Bf16>(width);
  }
}

TEST_P(SwigluTest, FarGatesStayFinite) {
  const std::vector<float> x = {-1000.0f, -90.0f, 90.0f, 1000.0f, 1.0f, 1.0f, 1.0f, 1.0f};
  std::vector<float> out(4), dx(8);
  const std::vector<float> d(4, 1.0f);
  swiglu_forward(x.data(), 8, 4, out.data(), 4, 0, 1, GetParam());
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_NEAR(out[1], 0.0f, 1e-35f);
  EXPECT_EQ(out[2], 90.0f);
  EXPECT_EQ(out[3], 1000.0f);
  swiglu_backward(x.data(), 8, d.data(), 4, 4, dx.data(), 8, static_cast<float*>(nullptr), 0, 0, 1, GetParam());
  EXPECT_NEAR(dx[0], 0.0f, 1e-35f);
  EXPECT_EQ(dx[3], 1.0f);
}

INSTANTIATE_TEST_SUITE_P(Levels, SwigluTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
