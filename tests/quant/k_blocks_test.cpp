// Quantizers of the K types, and all types with importances, against llama.cpp (golden file) and answers that can be
// worked out by hand; the vector levels against the scalar reference.
#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/base/parallel.h"
#include "slmi/quant/gguf_codec.h"
#include "test_support.h"

namespace slmi {
namespace {

using kernels::cpu::SimdLevel;
using quant::WeightFormat;

constexpr std::array kKTypes = {WeightFormat::Q2_K, WeightFormat::Q3_K, WeightFormat::Q4_K, WeightFormat::Q5_K,
                                WeightFormat::Q6_K};
constexpr std::array kWeighted = {WeightFormat::Q2_K, WeightFormat::Q3_K, WeightFormat::Q4_K,
                                  WeightFormat::Q5_K, WeightFormat::Q6_K, WeightFormat::Q4_0,
                                  WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1};

std::string label(WeightFormat format) {
  return std::string(quant::name(format));
}

std::vector<SimdLevel> all_levels() {
  std::vector<SimdLevel> out = {SimdLevel::Scalar};
  for (const SimdLevel level : test::vector_levels()) out.push_back(level);
  return out;
}

std::vector<float> round_trip(WeightFormat format, const std::vector<float>& row,
                              const std::vector<float>& importance = {}) {
  const auto k = static_cast<int64_t>(row.size());
  return quant::dequantize(format, quant::quantize(format, row, 1, k, {.importance = importance}), 1, k);
}

/// Normal values, one in fifty of them 30 times as large.
std::vector<float> heavy_tailed(uint64_t seed, int64_t count) {
  Random random(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& w : out) w = static_cast<float>(random.normal() * (random.uniform() < 0.02 ? 0.6 : 0.02));
  return out;
}

/// e^(1.5 normal), as measured importances look; one in ten is zero.
std::vector<float> importances(uint64_t seed, int64_t count) {
  Random random(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& w : out) w = random.uniform() < 0.1 ? 0.0f : static_cast<float>(std::exp(1.5 * random.normal()));
  return out;
}

// ---- llama.cpp's bits

class KGolden : public testing::TestWithParam<SimdLevel> {};

void expect_golden(const test::Golden& golden, WeightFormat format, const std::string& key,
                   const std::vector<float>& importance, SimdLevel level) {
  constexpr int64_t kColumns = 512;
  const std::vector<float> input = golden.values<float>("input");
  const int64_t n = static_cast<int64_t>(input.size()) / kColumns;
  ASSERT_EQ(n, 16);
  const std::vector<std::byte> want = golden.values<std::byte>(key);
  const std::vector<std::byte> got =
      quant::quantize(format, input, n, kColumns, {.importance = importance, .level = level});
  ASSERT_EQ(got.size(), want.size());
  const auto difference = std::mismatch(got.begin(), got.end(), want.begin()).first - got.begin();
  EXPECT_EQ(difference, static_cast<std::ptrdiff_t>(want.size()))
      << key << ": first differs in row " << difference / quant::row_bytes(format, kColumns);
}

TEST_P(KGolden, BytesEqualLlamaCpp) {
  const test::Golden golden("gguf_k_quantize.txt");
  for (const WeightFormat format : kKTypes) expect_golden(golden, format, label(format) + ".plain", {}, GetParam());
}

TEST_P(KGolden, BytesWithImportancesEqualLlamaCpp) {
  const test::Golden golden("gguf_k_quantize.txt");
  const std::vector<float> importance = golden.values<float>("importance");
  for (const WeightFormat format : kWeighted) {
    expect_golden(golden, format, label(format) + ".weighted", importance, GetParam());
  }
  expect_golden(golden, WeightFormat::Q8_0, "Q8_0.weighted", importance, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Levels, KGolden, testing::ValuesIn(all_levels()), [](const auto& info) {
  return info.param == SimdLevel::Scalar ? "Scalar" : info.param == SimdLevel::Avx2 ? "Avx2" : "Avx512";
});

// ---- levels, tails, threads

TEST(KBlocks, EveryLevelHasTheScalarBits) {
  if (test::vector_levels().empty()) GTEST_SKIP() << "this CPU has no vector level";
  for (const int64_t supers : {1, 2, 3, 4, 5, 8}) {  // tails of two super-blocks, and of 16 lanes
    const int64_t k = 256 * supers;
    const std::vector<float> weight = heavy_tailed(static_cast<uint64_t>(supers), 4 * k);
    for (const std::vector<float>& importance : {std::vector<float>{}, importances(7, k)}) {
      for (const WeightFormat format : kWeighted) {
        const auto bytes = [&](SimdLevel level) {
          return quant::quantize(format, weight, 4, k, {.importance = importance, .level = level});
        };
        for (const SimdLevel level : test::vector_levels()) {
          EXPECT_EQ(bytes(level), bytes(SimdLevel::Scalar)) << label(format) << ", k = " << k;
        }
      }
    }
  }
}

TEST(KBlocks, SmallBlocksWithImportancesHaveTheScalarBitsAtAnyTail) {
  if (test::vector_levels().empty()) GTEST_SKIP() << "this CPU has no vector level";
  for (const int64_t blocks : {1, 7, 8, 9, 15, 17, 31, 32, 33, 41}) {
    const int64_t k = 32 * blocks;
    const std::vector<float> weight = heavy_tailed(static_cast<uint64_t>(blocks), k);
    const std::vector<float> importance = importances(8, k);
    for (const WeightFormat format : {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1}) {
      const std::vector<std::byte> want =
          quant::quantize(format, weight, 1, k, {.importance = importance, .level = SimdLevel::Scalar});
      EXPECT_EQ(quant::quantize(format, weight, 1, k, {.importance = importance}), want) << label(format) << ' ' << k;
    }
  }
}

TEST(KBlocks, SuperBlocksOfARowAreIndependent) {
  constexpr int64_t kSupers = 5;
  const std::vector<float> weight = heavy_tailed(3, kSupers * 256);
  const std::vector<float> importance = importances(6, kSupers * 256);
  for (const WeightFormat format : kKTypes) {
    EXPECT_EQ(quant::quantize(format, weight, 1, kSupers * 256), quant::quantize(format, weight, kSupers, 256))
        << label(format);
    const auto super = [](const std::vector<float>& all, int64_t s) {
      return std::span(all).subspan(static_cast<size_t>(s * 256), 256);
    };
    std::vector<std::byte> one_by_one;
    for (int64_t s = 0; s < kSupers; ++s) {
      const std::vector<std::byte> bytes =
          quant::quantize(format, super(weight, s), 1, 256, {.importance = super(importance, s)});
      one_by_one.insert(one_by_one.end(), bytes.begin(), bytes.end());
    }
    EXPECT_EQ(quant::quantize(format, weight, 1, kSupers * 256, {.importance = importance}), one_by_one)
        << label(format);
  }
}

TEST(KBlocks, SmallBlocksTakeTheImportancesOfTheirOwnColumns) {
  constexpr int64_t kHalf = 32 * 40;  // more than one search's fill of blocks
  std::vector<float> half = heavy_tailed(13, kHalf);
  for (float& w : half) w = std::round(w * 64.0f) / 64.0f;  // sums of squares are exact: the row's mean is its halves'
  std::vector<float> row = half;
  row.insert(row.end(), half.begin(), half.end());
  const std::vector<float> importance = importances(14, 2 * kHalf);
  for (const WeightFormat format : {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1}) {
    std::vector<std::byte> halves;
    for (const size_t first : {size_t{0}, static_cast<size_t>(kHalf)}) {
      const std::span<const float> own = std::span(importance).subspan(first, static_cast<size_t>(kHalf));
      const std::vector<std::byte> bytes = quant::quantize(format, half, 1, kHalf, {.importance = own});
      halves.insert(halves.end(), bytes.begin(), bytes.end());
    }
    EXPECT_EQ(quant::quantize(format, row, 1, 2 * kHalf, {.importance = importance}), halves) << label(format);
  }
}

TEST(KBlocks, ThreadsDoNotChangeBytes) {
  const std::vector<float> weight = heavy_tailed(4, 7 * 512);
  const std::vector<float> importance = importances(9, 512);
  const int before = num_threads();
  set_num_threads(1);
  const std::vector<std::byte> one = quant::quantize(WeightFormat::Q4_K, weight, 7, 512, {.importance = importance});
  set_num_threads(3);
  EXPECT_EQ(quant::quantize(WeightFormat::Q4_K, weight, 7, 512, {.importance = importance}), one);
  set_num_threads(before);
}

// ---- known answers

TEST(KBlocks, ZeroStaysZero) {
  const std::vector<float> row(512, 0.0f);
  const std::vector<float> importance = importances(1, 512);
  for (const WeightFormat format : kWeighted) {
    EXPECT_EQ(round_trip(format, row), row) << label(format);
    EXPECT_EQ(round_trip(format, row, importance), row) << label(format);
  }
}

TEST(KBlocks, ConstantIsMetToTheRoundingOfItsScale) {
  for (const float c : {0.375f, -3.1f, 1000.0f}) {
    const std::vector<float> row(256, c);
    for (const WeightFormat format : kKTypes) {
      for (const float got : round_trip(format, row)) EXPECT_NEAR(got, c, 0x1p-11f * std::fabs(c)) << label(format);
    }
  }
}

TEST(KBlocks, OutlierSilencesItsSuperBlockAndNoOther) {
  std::vector<float> row(512, 0.01f);
  row[37] = -9.0f;
  const std::vector<float> got = round_trip(WeightFormat::Q6_K, row);
  // -9 / -32 is the scale with code -128; 0.01 / 32 is 0.14 of its steps and rounds to 0.
  for (size_t i = 0; i < 256; ++i) EXPECT_NEAR(got[i], i == 37 ? -9.0f : 0.0f, i == 37 ? 0.01f : 0.0f) << i;
  constexpr float kHalfStep = 0x1p-25f * 128 * 32;  // d is a subnormal f16, unit 2^-24
  for (size_t i = 256; i < 512; ++i) EXPECT_NEAR(got[i], 0.01f, kHalfStep) << i;
}

double weighted_error(const std::vector<float>& row, const std::vector<float>& got, const std::vector<float>& weight) {
  double error = 0.0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double difference = static_cast<double>(row[i]) - got[i];
    error += weight[i % weight.size()] * difference * difference;
  }
  return error;
}

TEST(KBlocks, MoreBitsGiveLessError) {
  Random random(11);
  std::vector<float> row(32768);
  for (float& w : row) w = static_cast<float>(random.normal());
  const auto error = [&](WeightFormat format) { return weighted_error(row, round_trip(format, row), {1.0f}); };
  constexpr double kHalf = 0.5;  // a bit less doubles the step: four times the squared error; twice at the least
  EXPECT_LT(error(WeightFormat::Q3_K), kHalf * error(WeightFormat::Q2_K));
  EXPECT_LT(error(WeightFormat::Q4_K), kHalf * error(WeightFormat::Q3_K));
  EXPECT_LT(error(WeightFormat::Q5_K), kHalf * error(WeightFormat::Q4_K));
  EXPECT_LT(error(WeightFormat::Q6_K), kHalf * error(WeightFormat::Q5_K));
  EXPECT_LT(error(WeightFormat::Q4_K), error(WeightFormat::Q4_0));
  EXPECT_LT(error(WeightFormat::Q5_K), error(WeightFormat::Q5_0));
}

TEST(KBlocks, ImportancesLowerTheErrorThatTheyWeigh) {
  constexpr int64_t kColumns = 1024;
  const std::vector<float> importance = importances(5, kColumns);
  std::vector<float> row(kColumns);
  Random random(12);
  for (float& w : row) w = static_cast<float>(0.02 * random.normal());
  for (const WeightFormat format : kWeighted) {
    EXPECT_LT(weighted_error(row, round_trip(format, row, importance), importance),
              weighted_error(row, round_trip(format, row), importance))
        << label(format);
  }
}

// ---- errors

void expect_error(ErrorKind kind, const std::string& part, const std::function<void()>& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(KBlocksErrors, NameRowColumnAndImportance) {
  std::vector<float> weight(512, 1.0f);
  std::vector<float> importance(256, 1.0f);
  weight[261] = 4e4f;
  expect_error(ErrorKind::Numeric, "row 1, column 5 is 40000; its blocks hold at most 32768",
               [&] { quant::quantize(WeightFormat::Q4_K, weight, 2, 256); });
  EXPECT_NO_THROW(quant::quantize(WeightFormat::Q4_0, weight, 2, 256));
  expect_error(ErrorKind::Numeric, "row 1, column 5",
               [&] { quant::quantize(WeightFormat::Q4_0, weight, 2, 256, {.importance = importance}); });
  weight[261] = -std::numeric_limits<float>::infinity();
  expect_error(ErrorKind::Numeric, "row 1, column 5 is -inf",
               [&] { quant::quantize(WeightFormat::Q6_K, weight, 2, 256); });
  weight[261] = 0.0f;
  importance[3] = -1.0f;
  expect_error(ErrorKind::Numeric, "importance of column 3 is -1",
               [&] { quant::quantize(WeightFormat::Q4_K, weight, 2, 256, {.importance = importance}); });
  importance.resize(255);
  expect_error(ErrorKind::Input, "255 importances given for 256 columns",
               [&] { quant::quantize(WeightFormat::Q4_K, weight, 2, 256, {.importance = importance}); });
  std::vector<std::byte> out(143);
  expect_error(ErrorKind::Internal, "143 bytes of output given, 288 needed",
               [&] { quant::quantize(WeightFormat::Q4_K, weight, 2, 256, std::span<std::byte>(out)); });
  expect_error(ErrorKind::Input, "row length 128", [&] { quant::quantize(WeightFormat::Q4_K, weight, 4, 128); });
}

}  // namespace
}  // namespace slmi
