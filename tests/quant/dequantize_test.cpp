// SIMD dequantization against the scalar reference, bit for bit, with fences around every row.
#include "slmi/kernels/cpu/dequantize.h"

#include "slmi/base/half.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/quant/nf4.h"
#include "test_support.h"

namespace slmi {
namespace {

using kernels::BlockFormat;
using kernels::cpu::SimdLevel;
using quant::WeightFormat;
using test::GuardedRows;

std::string level_name(SimdLevel level) {
  kernels::cpu::Simd simd;
  simd.level = level;
  return name(simd);
}

struct Case {
  WeightFormat format;
  SimdLevel level;
};

class Dequantize : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().level > kernels::cpu::detect_simd().level)
      GTEST_SKIP() << "this CPU has not " << level_name(GetParam().level);
  }
};

/// Row lengths around the steps of the loops: blocks for block formats, 16 values for the others.
std::vector<int64_t> lengths(WeightFormat format) {
  if (!quant::is_quantized(format)) return {1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 576};
  const int64_t block = quant::block_size(format);
  return {block, 2 * block, 3 * block, 7 * block, 8 * block, 9 * block};
}

template <class T>
void compare_with_reference(WeightFormat weight_format, SimdLevel level) {
  const BlockFormat format = quant::block_format(weight_format);
  Random random(17);
  constexpr int64_t kRows = 5;
  for (const int64_t k : lengths(weight_format)) {
    // Random bits make every kind of scale, NaN, infinity and subnormal included.
    const std::vector<std::byte> packed = test::random_bytes(random, quant::matrix_bytes(weight_format, kRows, k));
    for (const int64_t stride : {k, k + 3}) {
      GuardedRows<T> want(3, k, stride);
      GuardedRows<T> got(3, k, stride);
      kernels::cpu::dequantize_rows(format, packed.data(), want.data(), k, stride, 1, 4, SimdLevel::Scalar);
      kernels::cpu::dequantize_rows(format, packed.data(), got.data(), k, stride, 1, 4, level);
      for (int64_t r = 0; r < 3; ++r) {
        EXPECT_TRUE(test::equal_bits(got.row(r), want.row(r))) << "k " << k << ", stride " << stride << ", row " << r;
      }
      EXPECT_TRUE(want.guards_intact()) << "reference, k " << k << ", stride " << stride;
      EXPECT_TRUE(got.guards_intact()) << "k " << k << ", stride " << stride;
    }
  }
}

TEST_P(Dequantize, F32EqualsReference) {
  compare_with_reference<float>(GetParam().format, GetParam().level);
}

TEST_P(Dequantize, Bf16EqualsReference) {
  compare_with_reference<uint16_t>(GetParam().format, GetParam().level);
}

std::vector<Case> all_cases() {
  std::vector<Case> out;
  for (const WeightFormat format : quant::all_weight_formats()) {
    if (quant::has_planes(format)) continue;
    for (const SimdLevel level : {SimdLevel::Avx2, SimdLevel::Avx512}) out.push_back({format, level});
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Formats, Dequantize, testing::ValuesIn(all_cases()), [](const auto& info) {
  return std::string(quant::name(info.param.format)) + "_" + level_name(info.param.level);
});

TEST(DequantizeReference, Bf16IsTheRoundedF32) {
  Random random(3);
  for (const WeightFormat format : quant::all_weight_formats()) {
    if (quant::has_planes(format)) continue;
    const std::vector<std::byte> packed = test::random_bytes(random, quant::matrix_bytes(format, 8, 512));
    std::vector<float> values(8 * 512);
    std::vector<uint16_t> bf16(values.size());
    const BlockFormat block = quant::block_format(format);
    kernels::cpu::dequantize_rows(block, packed.data(), values.data(), 512, 512, 0, 8, SimdLevel::Scalar);
    kernels::cpu::dequantize_rows(block, packed.data(), bf16.data(), 512, 512, 0, 8, SimdLevel::Scalar);
    std::vector<uint16_t> want;
    for (const float v : values) want.push_back(f32_to_bf16(v));
    EXPECT_TRUE(test::equal_bits(bf16, want)) << quant::name(format);
  }
}

TEST(DequantizeReference, NoRowsWritesNothing) {
  GuardedRows<float> out(1, 32, 32);
  const std::vector<std::byte> packed(18);
  kernels::cpu::dequantize_rows(BlockFormat::Q4_0, packed.data(), out.data(), 32, 32, 1, 1);
  const float untouched = out.row(0)[0];
  for (const float v : out.row(0)) EXPECT_EQ(v, untouched);
}

/// Shapes in which blocks end with rows, straddle them, and in which a row begins in the middle of a byte.
template <class T>
void compare_nf4(quant::Nf4Scales scales) {
  Random random(29);
  for (const int64_t k : {1, 2, 63, 64, 65, 127, 128, 130, 191, 576, 4096 + 64}) {
    for (const int64_t n : {1, 2, 5}) {
      std::vector<float> weight(static_cast<size_t>(n * k));
      for (float& w : weight) w = static_cast<float>(random.normal());
      quant::Nf4Options options;
      options.scales = scales;
      const quant::Nf4Matrix matrix = quant::nf4_quantize(weight, n, k, options);
      const int64_t begin = n > 1 ? 1 : 0;
      GuardedRows<T> want(n - begin, k, k + 5);
      kernels::cpu::nf4_dequantize_rows(matrix.view(), want.data(), k + 5, begin, n, SimdLevel::Scalar);
      EXPECT_TRUE(want.guards_intact());
      for (const SimdLevel level : test::vector_levels()) {
        GuardedRows<T> got(n - begin, k, k + 5);
        kernels::cpu::nf4_dequantize_rows(matrix.view(), got.data(), k + 5, begin, n, level);
        for (int64_t r = 0; r < n - begin; ++r) {
          EXPECT_TRUE(test::equal_bits(got.row(r), want.row(r)))
              << level_name(level) << " [" << n << ", " << k << "], row " << begin + r;
        }
        EXPECT_TRUE(got.guards_intact()) << level_name(level) << " [" << n << ", " << k << "]";
      }
    }
  }
}

TEST(Nf4Dequantize, F32EqualsReference) {
  if (test::vector_levels().empty()) GTEST_SKIP() << "this CPU has no AVX2";
  compare_nf4<float>(quant::Nf4Scales::Plain);
  compare_nf4<float>(quant::Nf4Scales::Double);
}

TEST(Nf4Dequantize, Bf16EqualsReference) {
  if (test::vector_levels().empty()) GTEST_SKIP() << "this CPU has no AVX2";
  compare_nf4<uint16_t>(quant::Nf4Scales::Plain);
  compare_nf4<uint16_t>(quant::Nf4Scales::Double);
}

}  // namespace
}  // namespace slmi
