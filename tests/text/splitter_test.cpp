// The hand-written splitters against the regular expressions they stand for (golden/pieces.json, from tokenizers).
#include "splitter.h"

#include <gtest/gtest.h>

#include "slmi/base/error.h"
#include "test_support.h"

namespace slmi::text {
namespace {

std::vector<std::string> pieces_of(SplitPattern pattern, const std::string& text) {
  std::vector<std::string> out;
  split(pattern, text, [&](std::string_view piece) { out.emplace_back(piece); });
  return out;
}

class SplitterGolden : public testing::TestWithParam<SplitPattern> {};

TEST_P(SplitterGolden, PiecesEqualTheRegularExpression) {
  const std::string name(split_pattern_name(GetParam()));
  size_t compared = 0;
  for (const Json& row : read_golden("pieces.json")) {
    EXPECT_EQ(pieces_of(GetParam(), row["text"]), row[name].get<std::vector<std::string>>()) << row["text"];
    ++compared;
  }
  EXPECT_GE(compared, 40u);
}

INSTANTIATE_TEST_SUITE_P(All, SplitterGolden,
                         testing::Values(SplitPattern::Llama3, SplitPattern::Gpt2, SplitPattern::SmolLm),
                         [](const auto& info) { return std::string(split_pattern_name(info.param)); });

TEST(UnicodeClasses, HaveTheSizesOfUnicode16) {
  const auto& table = ClassTable::standard();
  std::array<int, 4> counts{};
  for (uint32_t c = 0; c < 0x110000; ++c) ++counts[static_cast<size_t>(table.at(c))];
  // Counted with tiktoken 0.14.0 and tokenizers 0.23.3, one code point at a time.
  EXPECT_EQ(counts[static_cast<size_t>(CharClass::Letter)], 141028);
  EXPECT_EQ(counts[static_cast<size_t>(CharClass::Number)], 1911);
  EXPECT_EQ(counts[static_cast<size_t>(CharClass::Space)], 25);
  for (uint32_t c = 0; c < 128; ++c) EXPECT_EQ(table.at(c), table.at_ascii(static_cast<uint8_t>(c)));
}

}  // namespace
}  // namespace slmi::text
