// Rows of a file through the prompt builder: exact ids with a tokenizer of single bytes, so that they can be counted.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/data/row_reader.h"
#include "slmi/text/prompt_builder.h"

namespace slmi::data {
namespace {

/// Llama 3's file form with the 256 bytes as its vocabulary: special tokens follow from 256 on.
text::Tokenizer::Ptr byte_tokenizer() {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string file;
  for (size_t byte = 0; byte < 256; ++byte) {
    file += kAlphabet[byte >> 2];
    file += kAlphabet[(byte & 3) << 4];
    file += fmt::format("== {}\n", byte);
  }
  return text::Tokenizer::from_tiktoken(file, "bytes.model");
}

constexpr int32_t kBos = 256, kStartHeader = 256 + 6, kEndHeader = 256 + 7, kEndOfTurn = 256 + 9;

void add_text(std::vector<int32_t>& ids, std::string_view text) {
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
}
void add_header(std::vector<int32_t>& ids, std::string_view role) {
  ids.push_back(kStartHeader);
  add_text(ids, role);
  ids.push_back(kEndHeader);
  add_text(ids, "\n\n");
}

text::PromptBuilder llama3_builder() {
  const auto tokenizer = byte_tokenizer();
  return text::PromptBuilder(tokenizer, text::ChatTemplate::load("llama3", *tokenizer));
}

std::vector<int32_t> to_vector(std::span<const int32_t> ids) {
  return {ids.begin(), ids.end()};
}

TEST(EncodeRows, ListsAreSharedPrefixesAndAnswersTargets) {
  const RowSet set = parse_rows(R"({"text":"two teas","answer":"{}","catalog":["Tea","Milk"]})"
                                "\n"
                                R"({"text":"a milk","intent":"add","catalog":["Tea","Milk"]})"
                                "\n"
                                R"({"text":"hello","intent":"greet"})"
                                "\n"
                                R"({"text":"bye","intent":"greet"})"
                                "\n",
                                "d.jsonl");
  const auto dataset = EncodedDataset::encode(set, llama3_builder(), {});
  ASSERT_EQ(dataset.size(), 4);

  std::vector<int32_t> prefix{kBos};
  add_header(prefix, "system");
  add_text(prefix, std::string(kCatalogInstruction) + "\nProducts: \"Tea\", \"Milk\"");
  prefix.push_back(kEndOfTurn);
  add_header(prefix, "user");
  EXPECT_EQ(dataset.prefix_id(0), 0);
  EXPECT_EQ(dataset.prefix_id(1), 0);
  EXPECT_EQ(to_vector(dataset.prefix_ids(0)), prefix);
  EXPECT_EQ(dataset.prefix_len(0), static_cast<int64_t>(prefix.size()));

  std::vector<int32_t> row = prefix;
  add_text(row, "two teas");
  row.push_back(kEndOfTurn);
  add_header(row, "assistant");
  EXPECT_EQ(dataset.target_begin(0), static_cast<int64_t>(row.size()));
  add_text(row, "{}");
  row.push_back(kEndOfTurn);
  EXPECT_EQ(to_vector(dataset.ids(0)), row);

  // bos and an empty user header: nine tokens that all rows share are not worth a segment.
  EXPECT_EQ(dataset.prefix_id(2), -1);
  EXPECT_EQ(dataset.num_prefixes(), 1);
  EXPECT_EQ(dataset.num_targets(2), 6);  // "greet" and the end of turn
}

TEST(EncodeRows, RowsWithoutAnswerHaveNoTargets) {
  const RowSet set = parse_rows(R"({"text":"hello"})", "d.jsonl", {.targets = Targets::Optional});
  const auto dataset = EncodedDataset::encode(set, llama3_builder(), {});
  EXPECT_EQ(dataset.num_targets(0), 0);
}

TEST(EncodeRows, OverLongRowsAreNamedByFileAndLine) {
  const RowSet set = parse_rows(
      "{\"text\":\"a\",\"intent\":\"i\"}\n{\"id\":\"x\",\"text\":\"" + std::string(100, 'a') + "\",\"intent\":\"i\"}\n",
      "d.jsonl");
  try {
    EncodedDataset::encode(set, llama3_builder(), {.max_seq_len = 64});
    FAIL() << "expected an error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Input);
    EXPECT_TRUE(std::string(e.what()).starts_with("d.jsonl:2: row 'x': 125 tokens, more than max_seq_len = 64\n"))
        << e.what();
  }
}

TEST(EncodeRows, ThreadsDoNotMatter) {
  std::string text;
  for (int i = 0; i < 500; ++i) {
    text += fmt::format(R"({{"text":"row {}","intent":"i{}","catalog":["p{}","q"]}})", i, i % 7, i % 5) + "\n";
  }
  const RowSet set = parse_rows(text, "d.jsonl");
  set_num_threads(1);
  const auto one = EncodedDataset::encode(set, llama3_builder(), {});
  set_num_threads(3);
  const auto three = EncodedDataset::encode(set, llama3_builder(), {});
  set_num_threads(available_processors());
  ASSERT_EQ(one.size(), three.size());
  EXPECT_EQ(one.num_prefixes(), 5);
  for (int64_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(to_vector(one.ids(i)), to_vector(three.ids(i)));
    EXPECT_EQ(one.prefix_id(i), three.prefix_id(i));
  }
}

}  // namespace
}  // namespace slmi::data
