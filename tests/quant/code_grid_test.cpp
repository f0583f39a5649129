// Grids and codes of blocks against what the dequantizers make of them.
#include "slmi/quant/code_grid.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/quant/gguf_codec.h"

namespace slmi::quant {
namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Q5_0, WeightFormat::Q5_1,
                                     WeightFormat::Q8_0, WeightFormat::Q2_K, WeightFormat::Q3_K, WeightFormat::Q4_K,
                                     WeightFormat::Q5_K, WeightFormat::Q6_K};

class CodeGridOf : public testing::TestWithParam<WeightFormat> {
 protected:
  CodeGrid grid_ = *code_grid(GetParam());
  size_t size_ = static_cast<size_t>(grid_.block);
  std::vector<float> normal(size_t n, unsigned seed) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> numbers(0.0F, 0.02F);
    std::vector<float> out(n);
    for (auto& x : out) x = numbers(random);
    return out;
  }
};

TEST_P(CodeGridOf, EveryCodeHasTheValueThatTheGridSays) {
  const auto x = normal(size_, 1);
  auto block = quantize(GetParam(), x, 1, grid_.block);
  const auto num_steps = static_cast<size_t>(grid_.block / grid_.shared);
  std::vector<float> steps(num_steps), bases(num_steps, 0.0F);
  read_grid(GetParam(), block.data(), steps.data(), bases.data());
  std::mt19937 random(2);
  std::vector<uint8_t> codes(size_);
  for (int round = 0; round < 20; ++round) {
    for (auto& code : codes) code = static_cast<uint8_t>(random() % static_cast<unsigned>(grid_.max_code + 1));
    store_codes(GetParam(), codes.data(), block.data());
    const auto values = dequantize(GetParam(), block, 1, grid_.block);
    for (size_t i = 0; i < size_; ++i) {
      const size_t at = i / static_cast<size_t>(grid_.shared);
      const float want = bases[at] + steps[at] * static_cast<float>(codes[i] - grid_.zero);
      EXPECT_NEAR(values[i], want, 1e-6F * std::fabs(want) + 1e-9F) << i;
    }
  }
  EXPECT_EQ(grid_.has_base, bases != std::vector<float>(num_steps, 0.0F));
}

/// Blocks of a kind that take their importances by super-block are those of a row; the others where a row is one block.
TEST_P(CodeGridOf, BlocksByThemselvesAreThoseOfQuantize) {
  const size_t count = 37;
  const auto x = normal(count * size_, 3);
  auto importance = normal(count * size_, 4);
  for (auto& w : importance) w = w * w;
  const auto bytes = static_cast<size_t>(row_bytes(GetParam(), grid_.block));
  std::vector<std::byte> got(count * bytes);
  quantize_blocks(GetParam(), x.data(), importance.data(), static_cast<int64_t>(count), got.data());
  for (size_t i = 0; i < count; ++i) {
    const std::span<const float> block(x.data() + i * size_, size_), weights(importance.data() + i * size_, size_);
    const auto want = quantize(GetParam(), block, 1, grid_.block, {.importance = weights});
    EXPECT_TRUE(std::equal(want.begin(), want.end(), got.begin() + static_cast<int64_t>(i * bytes))) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, CodeGridOf, testing::ValuesIn(kFormats),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST(CodeGrid, FormatsWithoutCodesHaveNone) {
  for (const auto format :
       {WeightFormat::F32, WeightFormat::F16, WeightFormat::BF16, WeightFormat::NF4, WeightFormat::GPTQ})
    EXPECT_FALSE(code_grid(format).has_value());
  uint8_t code = 0;
  std::byte block{};
  EXPECT_THROW(store_codes(WeightFormat::F16, &code, &block), Error);
}

}  // namespace
}  // namespace slmi::quant
