// Conversions, scaling, adding, transposing: equal bits to the scalar formula at every level.
#include "slmi/kernels/cpu/elementwise.h"

#include <bit>
#include <limits>

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

constexpr int64_t kRows = 3;

class ElementwiseTest : public LevelTest {
 protected:
  template <class S, class D>
  void check(int64_t width) {
    const int64_t src_stride = width + 3, dst_stride = width + 6;
    const auto src = random_rows<S>(kRows, width, src_stride, 41);
    Guarded<D> converted(kRows * dst_stride), scaled(kRows * dst_stride), transposed(width * (kRows + 2));
    convert_rows(src.data(), src_stride, converted.data(), dst_stride, width, 0, kRows, GetParam());
    scale_rows(src.data(), src_stride, 0.3f, scaled.data(), dst_stride, width, 0, kRows, GetParam());
    transpose_rows(src.data(), src_stride, 0.3f, transposed.data(), kRows + 2, width, 0, kRows, GetParam());
    ASSERT_TRUE(only_rows_written(converted, width, dst_stride));
    ASSERT_TRUE(only_rows_written(scaled, width, dst_stride));
    ASSERT_TRUE(only_rows_written(transposed, kRows, kRows + 2));
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < width; ++c) {
        const float x = to_float(src[r * src_stride + c]);
        ASSERT_EQ(to_float(converted[r * dst_stride + c]), to_float(from_float<D>(x)));
        ASSERT_EQ(to_float(scaled[r * dst_stride + c]), to_float(from_float<D>(x * 0.3f)));
        ASSERT_EQ(to_float(transposed[c * (kRows + 2) + r]), to_float(from_float<D>(x * 0.3f)));
      }
    }
  }

  template <class S>
  void check_add(int64_t width) {
    const int64_t src_stride = width + 3, dst_stride = width + 6;
    const auto src = random_rows<S>(kRows, width, src_stride, 42);
    const auto before = random_rows<float>(kRows, width, dst_stride, 43);
    auto dst = before;
    add_scaled_rows(src.data(), src_stride, 0.7f, dst.data(), dst_stride, width, 0, kRows, GetParam());
    ASSERT_TRUE(only_rows_written(dst, width, dst_stride));
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < width; ++c) {
        const volatile float product = to_float(src[r * src_stride + c]) * 0.7f;  // volatile: rounded before the sum
        ASSERT_EQ(dst[r * dst_stride + c], before[r * dst_stride + c] + product);
      }
    }
  }
};

TEST_P(ElementwiseTest, EqualsTheFormulaBitForBit) {
  for (const int64_t width : test_widths()) {
    check<float, float>(width);
    check<float, Bf16>(width);
    check<Bf16, float>(width);
    check<Bf16, Bf16>(width);
    check_add<float>(width);
    check_add<Bf16>(width);
  }
}

TEST_P(ElementwiseTest, RoundsEveryKindOfFloatAsHalfDoes) {
  // Each exponent, each rounding case of the low half: subnormals, ties, overflow to infinity, NaN.
  std::vector<float> src;
  for (uint32_t upper = 0; upper < 0x10000; upper += 13) {
    for (const uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      src.push_back(std::bit_cast<float>((upper << 16) | lower));
    }
  }
  const auto n = static_cast<int64_t>(src.size());
  std::vector<Bf16> dst(src.size());
  convert_rows(src.data(), 0, dst.data(), 0, n, 0, 1, GetParam());
  for (size_t i = 0; i < src.size(); ++i)
    ASSERT_EQ(dst[i].bits, f32_to_bf16(src[i])) << std::bit_cast<uint32_t>(src[i]);
  std::vector<float> back(src.size());
  convert_rows(dst.data(), 0, back.data(), 0, n, 0, 1, GetParam());
  for (size_t i = 0; i < src.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(back[i]), static_cast<uint32_t>(dst[i].bits) << 16);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, ElementwiseTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
