// NF4 against bitsandbytes on the CPU (golden file), and against answers that can be worked out by hand.
#include "slmi/quant/nf4.h"

#include <functional>
#include <limits>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/base/parallel.h"
#include "slmi/base/sha256.h"
#include "slmi/kernels/cpu/dequantize.h"
#include "slmi/kernels/dynamic_map.h"
#include "test_support.h"

namespace slmi {
namespace {

using kernels::kNf4Code;
using quant::Nf4Matrix;
using quant::Nf4Options;
using quant::Nf4Scales;

/// The weights that make_golden.py calls `hashed`.
std::vector<float> hashed(size_t count) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t h = static_cast<uint32_t>(i * 2654435761ull) >> 8;
    out[i] = static_cast<float>(std::ldexp(h / 16777216.0 - 0.5, -static_cast<int>(i / 64 % 7)));
  }
  return out;
}

template <class T>
std::string sha256_of(const std::vector<T>& values) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span<const T>(values)));
  return hash.hex();
}

Nf4Options plain() {
  Nf4Options out;
  out.scales = Nf4Scales::Plain;
  return out;
}

std::vector<float> values_of(const Nf4Matrix& matrix) {
  std::vector<float> out(static_cast<size_t>(matrix.n * matrix.k));
  quant::nf4_dequantize(matrix, out);
  return out;
}

int64_t ulps_apart(float a, float b) {
  return std::abs(static_cast<int64_t>(test::bits_of(a)) - static_cast<int64_t>(test::bits_of(b)));
}

class Nf4Golden : public testing::TestWithParam<const char*> {
 protected:
  const test::Golden golden_{"nf4.txt"};
  std::string key(const std::string& part) const { return std::string(GetParam()) + "." + part; }
  std::vector<float> weight() const {
    const std::vector<int64_t> shape = golden_.values<int64_t>(key("shape"));
    if (std::string(GetParam()) == "hashed") return hashed(static_cast<size_t>(shape[0] * shape[1]));
    return golden_.values<float>(key("weight"));
  }
  Nf4Matrix quantized(const Nf4Options& options) const {
    const std::vector<int64_t> shape = golden_.values<int64_t>(key("shape"));
    return quant::nf4_quantize(weight(), shape[0], shape[1], options);
  }
  Nf4Options nested() const {
    Nf4Options out;
    out.offset = golden_.values<float>(key("offset"))[0];
    return out;
  }
};

TEST_P(Nf4Golden, CodesAndScalesEqualBitsandbytes) {
  const Nf4Matrix matrix = quantized(plain());
  EXPECT_TRUE(test::equal_bits(matrix.codes, golden_.values<uint8_t>(key("codes"))));
  EXPECT_TRUE(test::equal_bits(matrix.absmax, golden_.values<float>(key("absmax"))));
  EXPECT_EQ(sha256_of(values_of(matrix)), golden_.hex(key("values_sha256")));
}

TEST_P(Nf4Golden, DoubleQuantizationEqualsBitsandbytesGivenTheOffset) {
  const Nf4Matrix matrix = quantized(nested());
  EXPECT_TRUE(test::equal_bits(matrix.codes, golden_.values<uint8_t>(key("codes"))));
  EXPECT_TRUE(test::equal_bits(matrix.absmax_codes, golden_.values<uint8_t>(key("absmax_codes"))));
  EXPECT_TRUE(test::equal_bits(matrix.absmax2, golden_.values<float>(key("absmax2"))));
  EXPECT_EQ(sha256_of(values_of(matrix)), golden_.hex(key("nested_values_sha256")));
}

TEST_P(Nf4Golden, Bf16ValuesEqualBitsandbytes) {
  const Nf4Matrix matrix = quantized(nested());
  std::vector<uint16_t> got(static_cast<size_t>(matrix.n * matrix.k));
  kernels::cpu::nf4_dequantize_rows(matrix.view(), got.data(), matrix.k, 0, matrix.n);
  EXPECT_EQ(sha256_of(got), golden_.hex(key("nested_bf16_sha256")));
}

TEST_P(Nf4Golden, ComputedOffsetIsWithinTwoUlp) {
  Nf4Options options;
  EXPECT_LE(ulps_apart(quantized(options).offset, nested().offset.value()), 2);
}

INSTANTIATE_TEST_SUITE_P(Cases, Nf4Golden, testing::Values("hashed", "tail", "edges", "reciprocal"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Nf4, DynamicMapsEqualBitsandbytes) {
  const test::Golden golden("nf4.txt");
  const auto values = [](const kernels::DynamicMap& map) { return std::vector<float>(map.begin(), map.end()); };
  EXPECT_TRUE(test::equal_bits(values(kernels::dynamic_map()), golden.values<float>("map")));
  EXPECT_TRUE(test::equal_bits(values(kernels::unsigned_dynamic_map()), golden.values<float>("unsigned_map")));
}

TEST(Nf4, SecondLevelEqualsBitsandbytes) {
  const test::Golden golden("nf4.txt");
  const quant::NestedScales got =
      quant::quantize_scales(golden.values<float>("scales.input"), golden.values<float>("scales.offset")[0]);
  EXPECT_TRUE(test::equal_bits(got.codes, golden.values<uint8_t>("scales.codes")));
  EXPECT_TRUE(test::equal_bits(got.absmax2, golden.values<float>("scales.absmax2")));
}

TEST(Nf4, EveryCodeTimesAPowerOfTwoIsMetExactly) {
  std::vector<float> row(128);
  for (size_t i = 0; i < row.size(); ++i) row[i] = kNf4Code[i % 16] * 0.25f;
  EXPECT_EQ(values_of(quant::nf4_quantize(row, 2, 64, plain())), row);
}

TEST(Nf4, ConstantIsPlusOrMinusAbsmax) {
  for (const float c : {0.3f, -0.3f}) {
    const std::vector<float> row(64, c);
    const Nf4Matrix matrix = quant::nf4_quantize(row, 1, 64, plain());
    EXPECT_EQ(matrix.codes, std::vector<uint8_t>(32, c > 0 ? 0xff : 0x00));
    EXPECT_EQ(values_of(matrix), row);
  }
}

TEST(Nf4, ZeroStaysZeroAndKeepsItsNeighbours) {
  std::vector<float> row(192, 0.0f);
  row[64] = 1.0f;
  const Nf4Matrix matrix = quant::nf4_quantize(row, 1, 192, plain());
  EXPECT_EQ(matrix.absmax, (std::vector<float>{0.0f, 1.0f, 0.0f}));
  EXPECT_EQ(values_of(matrix), row);
}

TEST(Nf4, OutlierSilencesItsBlockAlone) {
  std::vector<float> row(128, 0.01f);
  row[3] = 4.0f;
  const std::vector<float> got = values_of(quant::nf4_quantize(row, 1, 128, plain()));
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(got[i], i == 3 ? 4.0f : 0.0f);
  for (size_t i = 64; i < 128; ++i) EXPECT_EQ(got[i], 0.01f);
}

TEST(Nf4, RampIsWithinHalfAGap) {
  std::vector<float> row(64);
  for (size_t i = 0; i < 64; ++i) row[i] = static_cast<float>(i) / 31.5f - 1.0f;
  const std::vector<float> got = values_of(quant::nf4_quantize(row, 1, 64, plain()));
  for (size_t i = 0; i < 64; ++i) {
    for (const float code : kNf4Code) EXPECT_LE(std::fabs(got[i] - row[i]), std::fabs(code - row[i]) + 1e-7f) << row[i];
  }
}

TEST(Nf4, GaussianErrorIsSmallAndDoubleQuantizationCostsLittle) {
  Random random(23);
  std::vector<float> weight(512 * 256);
  for (float& w : weight) w = static_cast<float>(0.02 * random.normal());
  const auto error = [&](const Nf4Options& options) {
    const std::vector<float> got = values_of(quant::nf4_quantize(weight, 512, 256, options));
    double sum = 0.0;
    for (size_t i = 0; i < got.size(); ++i) sum += (got[i] - weight[i]) * (got[i] - weight[i]);
    return std::sqrt(sum / static_cast<double>(got.size())) / 0.02;
  };
  // Close to the best that 16 levels can do for 64 normal values scaled by their largest: 9.1 % of sigma.
  const double single = error(plain());
  EXPECT_NEAR(single, 0.0915, 0.0025);
  EXPECT_NEAR(error(Nf4Options{}), single, 0.01 * single);
}

TEST(Nf4, BytesAreTheBitsThatAreClaimed) {
  const std::vector<float> weight = hashed(256 * 1024);
  EXPECT_DOUBLE_EQ(8.0 * quant::nf4_quantize(weight, 256, 1024, plain()).bytes() / weight.size(), 4.5);
  EXPECT_NEAR(8.0 * quant::nf4_quantize(weight, 256, 1024).bytes() / weight.size(), 4.127, 0.001);
}

TEST(Nf4, ThreadsDoNotChangeBytes) {
  const std::vector<float> weight = hashed(111 * 77);
  const int before = num_threads();
  set_num_threads(1);
  const Nf4Matrix one = quant::nf4_quantize(weight, 111, 77);
  set_num_threads(3);
  const Nf4Matrix three = quant::nf4_quantize(weight, 111, 77);
  EXPECT_EQ(one.codes, three.codes);
  EXPECT_EQ(one.absmax_codes, three.absmax_codes);
  EXPECT_EQ(one.offset, three.offset);
  EXPECT_EQ(values_of(one), values_of(three));
  set_num_threads(before);
}

TEST(Nf4, EmptyMatrix) {
  const Nf4Matrix matrix = quant::nf4_quantize({}, 0, 64);
  EXPECT_EQ(matrix.num_blocks(), 0);
  EXPECT_TRUE(values_of(matrix).empty());
}

void expect_message(ErrorKind kind, const std::string& part, const std::function<void()>& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(Nf4Errors, NameWhatDoesNotFit) {
  std::vector<float> weight = hashed(256);
  expect_message(ErrorKind::Input, "needs 130 values, 256 given", [&] { quant::nf4_quantize(weight, 2, 65); });
  Nf4Matrix matrix = quant::nf4_quantize(weight, 4, 64);
  matrix.absmax2.clear();
  expect_message(ErrorKind::Input, "layer: NF4 matrix [4, 64]: absmax2 has 0 entries, needs 1",
                 [&] { quant::nf4_check(matrix, "layer"); });
  weight[130] = std::numeric_limits<float>::quiet_NaN();
  expect_message(ErrorKind::Numeric, "row 2, column 2", [&] { quant::nf4_quantize(weight, 4, 64); });
  weight[130] = -std::numeric_limits<float>::infinity();
  expect_message(ErrorKind::Numeric, "row 2, column 2", [&] { quant::nf4_quantize(weight, 4, 64); });
  const float nan = std::numeric_limits<float>::quiet_NaN();
  expect_message(ErrorKind::Numeric, "not finite", [&] { quant::quantize_scales(std::vector<float>{1.0f}, nan); });
  expect_message(ErrorKind::Numeric, "not finite", [&] {
    quant::quantize_scales(std::vector<float>{1.0f, nan}, 0.0f);
  });
}

}  // namespace
}  // namespace slmi
