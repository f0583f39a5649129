// Rotary position embedding: every level against f64, and back.
#include "slmi/kernels/cpu/rope.h"

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

constexpr int64_t kRows = 4, kHeads = 3, kPositions = 50;

class RopeTest : public LevelTest {
 protected:
  template <class T>
  void check(int64_t head_dim) {
    const int64_t half = head_dim / 2, width = kHeads * head_dim, stride = width + 7;
    std::vector<float> cos(static_cast<size_t>(kPositions * half)), sin(cos.size());
    for (int64_t p = 0; p < kPositions; ++p) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        cos[static_cast<size_t>(p * half + i)] = static_cast<float>(std::cos(angle));
        sin[static_cast<size_t>(p * half + i)] = static_cast<float>(std::sin(angle));
      }
    }
    const std::vector<int32_t> positions = {0, 49, 3, 17};
    const auto x = random_rows<T>(kRows, width, stride, 11);
    auto rotated = x;
    rope_apply(rotated.data(), stride, kHeads, head_dim, cos.data(), sin.data(), positions.data(),
               RopeDirection::Forward, 0, kRows, GetParam());
    ASSERT_TRUE(only_rows_written(rotated, width, stride));
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t i = 0; i < half; ++i) {
          const auto entry = static_cast<size_t>(positions[static_cast<size_t>(t)] * half + i);
          const double c = static_cast<double>(cos[entry]), s = static_cast<double>(sin[entry]);
          const int64_t at = t * stride + h * head_dim + i;
          const double a = static_cast<double>(to_float(x[at])), b = static_cast<double>(to_float(x[at + half]));
          const double bound = (std::fabs(a) + std::fabs(b)) * (unit_roundoff<T>() + 3 * 0x1p-24);
          ASSERT_NEAR(to_float(rotated[at]), a * c - b * s, bound) << head_dim;
          ASSERT_NEAR(to_float(rotated[at + half]), b * c + a * s, bound) << head_dim;
        }
      }
    }
    rope_apply(rotated.data(), stride, kHeads, head_dim, cos.data(), sin.data(), positions.data(),
               RopeDirection::Inverse, 0, kRows, GetParam());
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t c = 0; c < width; ++c) {
        ASSERT_NEAR(to_float(rotated[t * stride + c]), to_float(x[t * stride + c]), 16 * unit_roundoff<T>());
      }
    }
  }
};

TEST_P(RopeTest, EqualsF64AndInverts) {
  for (const int64_t head_dim : {2, 8, 16, 24, 32, 40, 64, 128, 256}) {
    check<float>(head_dim);
    check<Bf16>(head_dim);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, RopeTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
