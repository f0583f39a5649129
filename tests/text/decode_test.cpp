// Ids back to text.
#include <gtest/gtest.h>

#include "slmi/base/error.h"
#include "slmi/text/tokenizer.h"
#include "test_support.h"

namespace slmi::text {
namespace {

TEST(Decode, GivesTheTextBack) {
  for (const char* name : {"tiny_llama3.model", "tiny_llama3.json", "tiny_gpt2.json", "tiny_sentencepiece.model"}) {
    const auto tokenizer = Tokenizer::load(golden_path(name));
    for (const Json& row : read_golden("ids.json")) {
      const auto text = row["text"].get<std::string>();
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << name;
    }
  }
}

TEST(Decode, SkipsOrKeepsSpecialTokens) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_llama3.model"));
  std::vector<int32_t> ids = {*tokenizer->special("<|begin_of_text|>")};
  tokenizer->encode("hi there", ids);
  ids.push_back(*tokenizer->special("<|eot_id|>"));
  EXPECT_EQ(tokenizer->decode(ids), "hi there");
  EXPECT_EQ(tokenizer->decode(ids, Specials::Keep), "<|begin_of_text|>hi there<|eot_id|>");
}

TEST(Decode, ReplacesCutCharactersAsPythonDoes) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_llama3.model"));
  // Byte tokens have their byte as id. Right-hand sides: bytes(...).decode(errors="replace") of Python 3.11.
  const auto decode = [&](std::vector<int32_t> bytes) { return tokenizer->decode(bytes); };
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(decode({0x41, 0xE4, 0xB8}), "A" + r);
  EXPECT_EQ(decode({0xF0, 0x9F, 0x98, 0x41}), r + "A");
  EXPECT_EQ(decode({0xE4, 0xB8, 0xE4, 0xB8, 0xAD}), r + "中");
  EXPECT_EQ(decode({0xFF, 0xFE}), r + r);
  EXPECT_EQ(decode({0xED, 0xA0, 0x80}), r + r + r);
  EXPECT_EQ(decode({0xC3, 0x28}), r + "(");
  EXPECT_EQ(decode({0xF4, 0x90, 0x80}), r + r + r);
  EXPECT_EQ(decode({0x80, 0x41}), r + "A");
}

TEST(Decode, RefusesIdsOutsideTheVocabulary) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_gpt2.json"));
  const std::vector<int32_t> bad = {5, static_cast<int32_t>(tokenizer->vocab_size())};
  EXPECT_NE(error_of([&] { tokenizer->decode(bad); }).find("outside the vocabulary"), std::string::npos);
  EXPECT_NE(error_of([&] { tokenizer->token_bytes(-1); }).find("token id -1"), std::string::npos);
}

}  // namespace
}  // namespace slmi::text
