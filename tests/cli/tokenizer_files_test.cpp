// Vocabularies written as tokenizer.json and tokenizer.model are the ones they were made from.
#include "slmi/text/tokenizer_files.h"

#include <gtest/gtest.h>

#include "slmi/base/json.h"
#include "test_support.h"

namespace slmi::text {
namespace {

const std::vector<std::string> kTexts = {"two oat milks, please!", "  It's 12345 times\n\n\tso\xC3\xA9 \xE2\x82\xAC 7",
                                         "<|im_start|>not special<|im_end|>", "a  b   c\r\n",
                                         "\xF0\x9F\xA5\x9B\xE4\xB8\x96"};

void expect_same(const Tokenizer& got, const Tokenizer& want) {
  EXPECT_EQ(got.hash(), want.hash());
  EXPECT_EQ(got.special_names(), want.special_names());
  EXPECT_EQ(got.bos_id(), want.bos_id());
  EXPECT_EQ(got.eos_id(), want.eos_id());
  EXPECT_EQ(got.pad_id(), want.pad_id());
  EXPECT_EQ(got.wants_bos(), want.wants_bos());
  for (const auto& text : kTexts) EXPECT_EQ(got.encode(text), want.encode(text)) << text;
}

/// Writes the file's vocabulary, loads it again and compares.
void expect_round_trip(const std::filesystem::path& gguf, const std::filesystem::path& directory) {
  const auto want = Tokenizer::load(gguf);
  const auto chat = ChatTemplate::load(ChatTemplate::name_for(*want), *want);
  write_tokenizer_files(directory, formats::GgufFile::open(gguf), chat);
  expect_same(*Tokenizer::load(directory), *want);
  const Json config = read_json_file((directory / "tokenizer_config.json").string());
  EXPECT_EQ(config["chat_template"], chat.jinja());
}

class ByteLevel : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(ByteLevel, GgufVocabularyAsTokenizerJson) {
  const TemporaryDirectory folder;
  const auto [golden, pre] = GetParam();
  write_gguf_of_json(read_golden(golden), pre, folder.path() / "v.gguf");
  expect_round_trip(folder.path() / "v.gguf", folder.path() / "out");
  // The same tokenizer.json that the vocabulary was made from, as far as ids go.
  const auto original = Tokenizer::load(golden_path(golden));
  const auto written = Tokenizer::load(folder.path() / "out");
  EXPECT_EQ(written->hash(), original->hash());
}

INSTANTIATE_TEST_SUITE_P(Kinds, ByteLevel,
                         ::testing::Values(std::pair{"tiny_llama3.json", "llama-bpe"},
                                           std::pair{"tiny_smollm.json", "smollm"},
                                           std::pair{"tiny_gpt2.json", "gpt-2"}),
                         [](const auto& info) { return "Kind" + std::to_string(info.index); });

TEST(TokenizerFiles, UnusedIdsStayUnused) {
  const TemporaryDirectory folder;
  Json json = read_golden("tiny_smollm.json");
  json["added_tokens"].push_back(
      {{"id", 530}, {"content", "<|late|>"}, {"special", true}});  // 520..529 stand for nothing
  write_gguf_of_json(json, "smollm", folder.path() / "v.gguf");
  expect_round_trip(folder.path() / "v.gguf", folder.path() / "out");
  EXPECT_EQ(Tokenizer::load(folder.path() / "out")->special("<|late|>"), 530);
}

TEST(TokenizerFiles, SentencePieceVocabularyAsModel) {
  const TemporaryDirectory folder;
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const Json& piece : read_golden("tiny_sentencepiece.json")) {
    texts.push_back(piece[0]);
    scores.push_back(piece[1]);
    types.push_back(piece[2]);
  }
  formats::GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_string("tokenizer.ggml.model", "llama");
  writer.add_strings("tokenizer.ggml.tokens", texts);
  writer.add_f32s("tokenizer.ggml.scores", scores);
  writer.add_i32s("tokenizer.ggml.token_type", types);
  writer.write(folder.path() / "v.gguf");
  expect_round_trip(folder.path() / "v.gguf", folder.path() / "out");
}

TEST(TokenizerFiles, SmolLM2) {
  const auto path = file_from_environment("SLMI_SMOLLM2_GGUF");
  if (!path) GTEST_SKIP() << "SLMI_SMOLLM2_GGUF names no file";
  const TemporaryDirectory folder;
  expect_round_trip(*path, folder.path() / "out");
}

TEST(TokenizerFiles, CopiesKeepTheVocabularyAndReplaceTheTemplate) {
  const TemporaryDirectory folder;
  const auto from = folder.path() / "from", to = folder.path() / "to";
  std::filesystem::create_directories(from);
  std::filesystem::create_directories(to);
  written_in(folder, "from/tokenizer.json", read_file(golden_path("tiny_smollm.json")));
  written_in(folder, "from/tokenizer_config.json", R"({"eos_token": "<|im_end|>", "chat_template": "old", "kept": 1})");
  written_in(folder, "from/chat_template.jinja", "old");
  written_in(folder, "to/tokenizer.model", "of an earlier model");
  written_in(folder, "to/chat_template.jinja", "of an earlier model");
  const auto tokenizer = Tokenizer::load(from);
  const auto chat = ChatTemplate::load("chatml", *tokenizer);
  copy_tokenizer_files(to, from, chat);
  EXPECT_EQ(read_file(to / "tokenizer.json"), read_file(from / "tokenizer.json"));
  const Json config = read_json_file((to / "tokenizer_config.json").string());
  EXPECT_EQ(config["chat_template"], chat.jinja());
  EXPECT_EQ(config["kept"], 1);
  EXPECT_FALSE(std::filesystem::exists(to / "tokenizer.model"));
  EXPECT_FALSE(std::filesystem::exists(to / "chat_template.jinja"));
  expect_same(*Tokenizer::load(to), *tokenizer);
}

TEST(TokenizerFiles, TheOriginalModelIsCopiedWhereThereIsNoOther) {
  const TemporaryDirectory folder;
  std::filesystem::create_directories(folder.path() / "from/original");
  written_in(folder, "from/original/tokenizer.model", read_file(golden_path("tiny_llama3.model")));
  const auto tokenizer = Tokenizer::load(folder.path() / "from");
  const auto chat = ChatTemplate::load("llama3", *tokenizer);
  copy_tokenizer_files(folder.path() / "a", folder.path() / "from", chat);
  expect_same(*Tokenizer::load(folder.path() / "a"), *tokenizer);
  written_in(folder, "from/tokenizer.json", read_file(golden_path("tiny_llama3.json")));
  copy_tokenizer_files(folder.path() / "b", folder.path() / "from", chat);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "b/tokenizer.model"));
}

TEST(TokenizerFiles, ASingleFileIsCopiedUnderTheNameOfItsKind) {
  const TemporaryDirectory folder;
  const auto tokenizer = Tokenizer::load(golden_path("tiny_llama3.model"));
  const auto chat = ChatTemplate::load("llama3", *tokenizer);
  copy_tokenizer_files(folder.path() / "a", golden_path("tiny_llama3.model"), chat);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "a/tokenizer.model"));
  expect_same(*Tokenizer::load(folder.path() / "a"), *tokenizer);
  copy_tokenizer_files(folder.path() / "b", golden_path("tiny_llama3.json"), chat);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "b/tokenizer.json"));
  expect_same(*Tokenizer::load(folder.path() / "b"), *Tokenizer::load(golden_path("tiny_llama3.json")));
}

}  // namespace
}  // namespace slmi::text
