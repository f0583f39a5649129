// Every kind of vocabulary written as GGUF metadata, read back: same hash, same ids, and the template's own keys.
#include "slmi/text/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "byte_alphabet.h"
#include "slmi/text/ollama_modelfile.h"
#include "test_support.h"

namespace slmi::text {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kTexts = {"two oat milks, please!", "  It's 12345 times\n\n\tso\xC3\xA9 \xE2\x82\xAC 7",
                                         "<|im_start|>not special<|eot_id|>", "a  b   c\r\n",
                                         "\xF0\x9F\xA5\x9B\xE4\xB8\x96"};

PromptBuilder prompts_of(const Tokenizer::Ptr& tokenizer, const std::string& name, const std::string& system = "") {
  return {tokenizer, ChatTemplate::load(name, *tokenizer), system};
}

formats::GgufFile written(const TemporaryDirectory& folder, const PromptBuilder& prompts, int64_t vocab_size,
                          const formats::GgufFile* carried = nullptr) {
  formats::GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  add_gguf_tokenizer(writer, prompts, vocab_size, carried);
  writer.write(folder.path() / "written.gguf");
  return formats::GgufFile::open(folder.path() / "written.gguf");
}

void expect_same(const Tokenizer& got, const Tokenizer& want) {
  EXPECT_EQ(got.hash(), want.hash());
  EXPECT_EQ(got.special_names(), want.special_names());
  for (const auto& text : kTexts) EXPECT_EQ(got.encode(text), want.encode(text)) << text;
}

struct Kind {
  const char* file;
  const char* pre;
  const char* chat_template;
};

class GgufTokenizer : public ::testing::TestWithParam<Kind> {};

TEST_P(GgufTokenizer, IsReadBackAsItWas) {
  const TemporaryDirectory folder;
  const auto tokenizer = Tokenizer::load(golden_path(GetParam().file));
  const auto prompts = prompts_of(tokenizer, GetParam().chat_template);
  const auto file = written(folder, prompts, tokenizer->vocab_size());
  expect_same(*Tokenizer::from_gguf(file), *tokenizer);
  EXPECT_EQ(file.value("tokenizer.ggml.pre").as_string(), GetParam().pre);
  EXPECT_EQ(file.value("tokenizer.ggml.eos_token_id").as_int(), prompts.stop_ids().front());
  EXPECT_EQ(file.value("tokenizer.ggml.add_bos_token").as_bool(), !prompts.chat_template().bos().empty());
  EXPECT_EQ(file.value(kGgufTemplateKey).as_string(), prompts.chat_template().jinja());
}

INSTANTIATE_TEST_SUITE_P(Files, GgufTokenizer,
                         ::testing::Values(Kind{"tiny_llama3.json", "llama-bpe", "llama3"},
                                           Kind{"tiny_llama3.model", "llama-bpe", "llama3"},
                                           Kind{"tiny_smollm.json", "smollm", "chatml"},
                                           Kind{"tiny_gpt2.json", "gpt-2", "plain"},
                                           Kind{"tiny_sentencepiece.model", "default", "plain"}),
                         [](const auto& info) { return "File" + std::to_string(info.index); });

TEST(GgufTokenizerKeys, ATiktokenFileBringsEverySplitOfEveryToken) {
  // The tokenizer.json of the same vocabulary lists its merges; the tiktoken file only ranks.
  const TemporaryDirectory folder;
  const auto tokenizer = Tokenizer::load(golden_path("tiny_llama3.model"));
  const auto file = written(folder, prompts_of(tokenizer, "llama3"), tokenizer->vocab_size());
  std::vector<std::string> got, want;
  for (const auto text : file.value("tokenizer.ggml.merges").strings()) got.emplace_back(text);
  const Json golden = read_golden("tiny_llama3.json");
  for (const Json& merge : golden["model"]["merges"])
    want.push_back(merge.is_string() ? merge.get<std::string>()
                                     : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  std::ranges::sort(got);
  std::ranges::sort(want);
  EXPECT_EQ(got, want);
}

TEST(GgufTokenizerKeys, UnusedIdsAreFilledUpToTheModelsVocabulary) {
  const TemporaryDirectory folder;
  const auto tokenizer = Tokenizer::load(golden_path("tiny_smollm.json"));
  const int64_t size = tokenizer->vocab_size();
  const auto file = written(folder, prompts_of(tokenizer, "chatml"), size + 3);
  const auto tokens = file.value("tokenizer.ggml.tokens").strings();
  ASSERT_EQ(tokens.size(), static_cast<size_t>(size + 3));
  EXPECT_EQ(tokens.back(), "[PAD" + std::to_string(size + 2) + "]");
  EXPECT_EQ(file.value("tokenizer.ggml.token_type").ints().back(), 5);
  expect_same(*Tokenizer::from_gguf(file), *tokenizer);
}

TEST(GgufTokenizerKeys, AGgufVocabularyIsCarriedOverAsItIs) {
  const TemporaryDirectory folder;
  write_gguf_of_json(read_golden("tiny_smollm.json"), "smollm", folder.path() / "base.gguf");
  const auto plain = formats::GgufFile::open(folder.path() / "base.gguf");
  formats::GgufWriter base;
  for (const auto& [key, value] : plain.metadata()) base.add_value(key, value);
  base.add_string("tokenizer.chat_template", "the base's own");
  base.add_u32("tokenizer.ggml.padding_token_id", 2);
  base.add_u32("tokenizer.ggml.eos_token_id", 0);
  base.add_bool("tokenizer.ggml.add_bos_token", true);
  base.write(folder.path() / "base.gguf");
  const auto from = formats::GgufFile::open(folder.path() / "base.gguf");
  const auto tokenizer = Tokenizer::from_gguf(from);
  const auto prompts = prompts_of(tokenizer, "chatml");
  const auto file = written(folder, prompts, tokenizer->vocab_size(), &from);
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
                          "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.ggml.padding_token_id"})
    EXPECT_TRUE(std::ranges::equal(file.value(key).payload, from.value(key).payload)) << key;
  EXPECT_EQ(file.value("tokenizer.chat_template").as_string(), prompts.chat_template().jinja());
  EXPECT_EQ(file.value("tokenizer.ggml.eos_token_id").as_int(), *tokenizer->special("<|im_end|>"));
  EXPECT_FALSE(file.value("tokenizer.ggml.add_bos_token").as_bool());
}

TEST(GgufTokenizerKeys, WhatLlamaCppCannotDoIsRefused) {
  // Llama 3's splitting without taking whole pieces has no name there.
  Json json = read_golden("tiny_llama3.json");
  json["model"]["ignore_merges"] = false;
  const auto tokenizer = Tokenizer::from_tokenizer_json(json.dump(), "t.json");
  EXPECT_THAT(error_of([&] { tokenizer->gguf_vocabulary(); }), HasSubstr("no pre-tokenizer of that kind"));
}

TEST(ByteAlphabet, IsItsOwnInverseForEveryByte) {
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    std::string back;
    ASSERT_TRUE(append_alphabet_bytes(alphabet_text(byte), back)) << b;
    EXPECT_EQ(back, byte) << b;
  }
  EXPECT_EQ(alphabet_text(" a\n"),
            "\xC4\xA0"
            "a\xC4\x8A");  // U+0120, U+010A: as GPT-2's vocabulary writes them
}

TEST(OllamaModelfile, HoldsTemplateStopsAndSystemTurn) {
  const auto prompts = prompts_of(Tokenizer::load(golden_path("tiny_smollm.json")), "chatml", "Answer in JSON.");
  const std::string got = ollama_modelfile(prompts, "shop.gguf");
  EXPECT_THAT(got, HasSubstr("\nFROM ./shop.gguf\n"));
  EXPECT_THAT(got, HasSubstr("TEMPLATE \"\"\"{{ range .Messages }}{{ if eq .Role \"system\" }}<|im_start|>system\n"
                             "{{ .Content }}<|im_end|>\n{{ else if eq .Role \"user\" }}<|im_start|>user\n"
                             "{{ .Content }}<|im_end|>\n{{ else }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n"
                             "{{ end }}{{ end }}<|im_start|>assistant\n\"\"\"\n"));
  EXPECT_THAT(got, HasSubstr("SYSTEM \"\"\"Answer in JSON.\"\"\"\n"));
  EXPECT_THAT(got, HasSubstr("PARAMETER stop \"<|im_end|>\"\n"));
}

TEST(OllamaModelfile, LeavesTheBosTokenToOllamaAndSaysThatItDoesNotTrim) {
  const auto prompts = prompts_of(Tokenizer::load(golden_path("tiny_llama3.json")), "llama3");
  const std::string got = ollama_modelfile(prompts, "m.gguf");
  EXPECT_EQ(got.find("<|begin_of_text|>"), std::string::npos);
  EXPECT_THAT(got, HasSubstr("strips white space"));
  EXPECT_EQ(got.find("SYSTEM"), std::string::npos);
}

TEST(OllamaModelfile, BracesOfTheTemplateStayText) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_smollm.json"));
  const auto chat = ChatTemplate::from_json(
      R"({"turn_prefix": "{{{role}}}", "turn_suffix": "<|im_end|>", "stop": ["<|im_end|>"]})", "t.json", "t.json");
  EXPECT_THAT(chat.go_template(), HasSubstr("{{ \"{{\" }}user}}{{ .Content }}"));
}

}  // namespace
}  // namespace slmi::text
