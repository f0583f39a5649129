// GGUF codecs against the `gguf` Python package (golden files) and against answers that can be worked out by hand.
#include "slmi/quant/gguf_codec.h"

#include <algorithm>
#include <array>
#include <limits>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/base/parallel.h"
#include "slmi/kernels/cpu/dequantize.h"
#include "test_support.h"

namespace slmi {
namespace {

using quant::WeightFormat;

constexpr std::array kGgufFormats = {WeightFormat::F32,  WeightFormat::F16,  WeightFormat::BF16, WeightFormat::Q4_0,
                                     WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1, WeightFormat::Q8_0,
                                     WeightFormat::Q2_K, WeightFormat::Q3_K, WeightFormat::Q4_K, WeightFormat::Q5_K,
                                     WeightFormat::Q6_K};
constexpr std::array kQuantizable = {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1,
                                     WeightFormat::Q8_0};

std::string label(WeightFormat format) {
  return std::string(quant::name(format));
}

std::vector<float> round_trip(WeightFormat format, const std::vector<float>& row) {
  const auto k = static_cast<int64_t>(row.size());
  return quant::dequantize(format, quant::quantize(format, row, 1, k), 1, k);
}

class GgufGolden : public testing::TestWithParam<WeightFormat> {};

TEST_P(GgufGolden, FactsEqualThePackage) {
  const std::vector<int64_t> facts = test::Golden("gguf_dequantize.txt").values<int64_t>(label(GetParam()) + ".facts");
  ASSERT_EQ(facts.size(), 3u);
  EXPECT_EQ(quant::ggml_type_id(GetParam()), static_cast<uint32_t>(facts[0]));
  EXPECT_EQ(quant::weight_format_from_ggml(static_cast<uint32_t>(facts[0])), GetParam());
  EXPECT_EQ(quant::block_size(GetParam()), facts[1]);
  EXPECT_EQ(quant::block_bytes(GetParam()), facts[2]);
}

TEST_P(GgufGolden, ValuesEqualThePackageAtEveryLevel) {
  const test::Golden golden("gguf_dequantize.txt");
  const std::vector<std::byte> packed = golden.values<std::byte>(label(GetParam()) + ".packed");
  const std::vector<float> want = golden.values<float>(label(GetParam()) + ".values");
  const auto k = static_cast<int64_t>(want.size());
  EXPECT_TRUE(test::equal_bits(quant::dequantize(GetParam(), packed, 1, k), want));
  std::vector<float> got(want.size());
  kernels::cpu::dequantize_rows(quant::block_format(GetParam()), packed.data(), got.data(), k, k, 0, 1,
                                kernels::cpu::SimdLevel::Scalar);
  EXPECT_TRUE(test::equal_bits(got, want)) << "scalar";
  for (const auto level : test::vector_levels()) {
    kernels::cpu::dequantize_rows(quant::block_format(GetParam()), packed.data(), got.data(), k, k, 0, 1, level);
    EXPECT_TRUE(test::equal_bits(got, want)) << "level " << static_cast<int>(level);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, GgufGolden, testing::ValuesIn(kGgufFormats),
                         [](const auto& info) { return label(info.param); });

TEST(GgufQuantize, PackedBytesEqualThePackage) {
  const test::Golden golden("gguf_quantize.txt");
  const std::vector<float> input = golden.values<float>("input");
  constexpr int64_t kColumns = 64;
  const int64_t n = static_cast<int64_t>(input.size()) / kColumns;
  ASSERT_EQ(n, 13);
  std::vector<kernels::cpu::SimdLevel> levels = test::vector_levels();
  levels.insert(levels.begin(), kernels::cpu::SimdLevel::Scalar);
  for (const WeightFormat format : {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1,
                                    WeightFormat::Q8_0, WeightFormat::BF16, WeightFormat::F16}) {
    const std::vector<std::byte> want = golden.values<std::byte>(label(format) + ".packed");
    for (const auto level : levels) {
      const std::vector<std::byte> got =
          quant::quantize(format, input, n, kColumns, {.importance = {}, .level = level});
      ASSERT_EQ(got.size(), want.size());
      const auto difference = std::mismatch(got.begin(), got.end(), want.begin()).first - got.begin();
      EXPECT_EQ(difference, static_cast<std::ptrdiff_t>(want.size()))
          << label(format) << ", level " << static_cast<int>(level) << ": first differs in row "
          << difference / quant::row_bytes(format, kColumns);
    }
  }
}

TEST(GgufQuantize, ConstantIsMetExactlyWhereTheFormatCan) {
  const std::vector<float> row(64, -0.75f);
  EXPECT_EQ(round_trip(WeightFormat::Q4_0, row), row);  // d = 0.09375, code 0: -8 d
  EXPECT_EQ(round_trip(WeightFormat::Q5_0, row), row);
  EXPECT_EQ(round_trip(WeightFormat::Q4_1, row), row);  // d = 0, m = -0.75
  EXPECT_EQ(round_trip(WeightFormat::Q5_1, row), row);
  const std::vector<float> q8 = round_trip(WeightFormat::Q8_0, row);  // d = f16(0.75 / 127)
  EXPECT_EQ(q8, std::vector<float>(64, -127.0f * f16_to_f32(f32_to_f16(0.75f / 127.0f))));
}

TEST(GgufQuantize, ZeroStaysZero) {
  const std::vector<float> row(32, 0.0f);
  for (const WeightFormat format : kQuantizable) EXPECT_EQ(round_trip(format, row), row) << label(format);
}

TEST(GgufQuantize, RampTakesEveryCode) {
  std::vector<float> row(32);
  for (size_t i = 0; i < 32; ++i) row[i] = static_cast<float>(i) - 16.0f;  // Q5_0: d = 1; Q5_1: d = 1, m = -16
  EXPECT_EQ(round_trip(WeightFormat::Q5_0, row), row);
  EXPECT_EQ(round_trip(WeightFormat::Q5_1, row), row);
  std::vector<float> steps(32);
  for (size_t i = 0; i < 32; ++i) steps[i] = static_cast<float>(i / 2) - 8.0f;  // sixteen levels
  EXPECT_EQ(round_trip(WeightFormat::Q4_0, steps), steps);
  EXPECT_EQ(round_trip(WeightFormat::Q4_1, steps), steps);
}

TEST(GgufQuantize, OutlierKeepsItsValueAndSilencesTheRest) {
  std::vector<float> row(32, 0.01f);
  row[5] = -8.0f;
  const std::vector<float> q4 = round_trip(WeightFormat::Q4_0, row);  // d = 1: 0.01 is closer to 0 than to 1
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(q4[i], i == 5 ? -8.0f : 0.0f);
  const std::vector<float> q5 = round_trip(WeightFormat::Q5_0, row);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(q5[i], i == 5 ? -8.0f : 0.0f);
}

TEST(GgufQuantize, Q8HalvesGoAwayFromZero) {
  std::vector<float> row(32, 0.0f);
  row[0] = 127.0f;  // d = 1
  row[1] = 2.5f;
  row[2] = -2.5f;
  row[3] = 0.5f;
  const std::vector<float> got = round_trip(WeightFormat::Q8_0, row);
  EXPECT_EQ(got[1], 3.0f);
  EXPECT_EQ(got[2], -3.0f);
  EXPECT_EQ(got[3], 1.0f);
}

TEST(GgufQuantize, LargerPositiveValueFlipsTheScale) {
  std::vector<float> row(32, 0.0f);
  row[0] = 8.0f;
  row[1] = -7.0f;
  const std::vector<float> got = round_trip(WeightFormat::Q4_0, row);  // d = -1: 8 is code 0, -7 code 15
  EXPECT_EQ(got[0], 8.0f);
  EXPECT_EQ(got[1], -7.0f);
}

/// Root mean square error over that of the input, of Gaussian rows.
double gaussian_error(WeightFormat format) {
  Random random(11);
  std::vector<float> row(32768);
  for (float& w : row) w = static_cast<float>(random.normal());
  const std::vector<float> got = round_trip(format, row);
  double error = 0.0;
  double power = 0.0;
  for (size_t i = 0; i < row.size(); ++i) {
    error += (row[i] - got[i]) * (row[i] - got[i]);
    power += row[i] * row[i];
  }
  return std::sqrt(error / power);
}

TEST(GgufQuantize, GaussianErrorIsThatOfTheStepSize) {
  // A uniform step s makes an error of s / sqrt(12). The range of 32 normal values is 4.14 sigma in the mean, their
  // largest magnitude 2.27: steps of 4.14 / 15, 4.14 / 31, 2.27 / 8, 2.27 / 16 and 2.27 / 127. Within a tenth.
  const std::map<WeightFormat, double> expected = {{WeightFormat::Q4_1, 0.0797},
                                                   {WeightFormat::Q5_1, 0.0386},
                                                   {WeightFormat::Q4_0, 0.0819},
                                                   {WeightFormat::Q5_0, 0.0410},
                                                   {WeightFormat::Q8_0, 0.00516}};
  for (const auto& [format, error] : expected) EXPECT_NEAR(gaussian_error(format), error, 0.1 * error) << label(format);
}

TEST(GgufQuantize, ThreadsDoNotChangeBytes) {
  Random random(2);
  std::vector<float> weight(37 * 96);
  for (float& w : weight) w = static_cast<float>(random.normal());
  const int before = num_threads();
  set_num_threads(1);
  const std::vector<std::byte> one = quant::quantize(WeightFormat::Q4_1, weight, 37, 96);
  const std::vector<float> values_one = quant::dequantize(WeightFormat::Q4_1, one, 37, 96);
  set_num_threads(3);
  EXPECT_EQ(quant::quantize(WeightFormat::Q4_1, weight, 37, 96), one);
  EXPECT_EQ(quant::dequantize(WeightFormat::Q4_1, one, 37, 96), values_one);
  set_num_threads(before);
}

template <class Body>
void expect_error(ErrorKind kind, const std::string& part, const Body& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(GgufCodecErrors, NameWhatDoesNotFit) {
  const std::vector<std::byte> bytes(18);
  std::vector<float> row(64, 1.0f);
  expect_error(ErrorKind::Input, "18 bytes given, 36 needed",
               [&] { quant::dequantize(WeightFormat::Q4_0, bytes, 2, 32); });
  expect_error(ErrorKind::Input, "row length 33", [&] { quant::dequantize(WeightFormat::Q4_0, bytes, 1, 33); });
  expect_error(ErrorKind::Input, "overflow",
               [&] { quant::matrix_bytes(WeightFormat::F32, std::numeric_limits<int64_t>::max() / 2, 4); });
  expect_error(ErrorKind::Usage, "no quantizer for NF4", [&] { quant::quantize(WeightFormat::NF4, row, 1, 64); });
  expect_error(ErrorKind::Internal, "rows [0, 2)",
               [&] { quant::dequantize(WeightFormat::Q4_0, bytes, 1, 32, 0, 2, std::span<float>(row)); });
  expect_error(ErrorKind::Input, "64 values given, 96 needed",
               [&] { quant::quantize(WeightFormat::Q4_0, row, 1, 96); });
  row[40] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorKind::Numeric, "row 1, column 8", [&] { quant::quantize(WeightFormat::Q8_0, row, 2, 32); });
  row[40] = std::numeric_limits<float>::infinity();
  expect_error(ErrorKind::Numeric, "row 0, column 40", [&] { quant::quantize(WeightFormat::Q8_0, row, 1, 64); });
}

}  // namespace
}  // namespace slmi
