// Ids against tiktoken, tokenizers and sentencepiece (golden/ids.json), and the forms of one vocabulary against each
// other.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/random.h"
#include "slmi/formats/gguf.h"
#include "slmi/text/tokenizer.h"
#include "test_support.h"

namespace slmi::text {
namespace {

void expect_golden_ids(const Tokenizer& tokenizer, const std::string& column) {
  size_t compared = 0;
  for (const Json& row : read_golden("ids.json")) {
    const auto want = row[column].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(row["text"].get<std::string>()), want) << row["text"];
    ++compared;
  }
  EXPECT_GE(compared, 40u);
}

TEST(Tokenizer, TiktokenFileGivesTiktokensIds) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_llama3.model"));
  expect_golden_ids(*tokenizer, "llama3");
  EXPECT_EQ(tokenizer->splitter_name(), "llama3");
  const auto first_special = static_cast<int32_t>(tokenizer->vocab_size()) - 256;
  EXPECT_EQ(tokenizer->special("<|begin_of_text|>"), first_special);
  EXPECT_EQ(tokenizer->special("<|eot_id|>"), first_special + 9);
  EXPECT_EQ(tokenizer->bos_id(), first_special);
  EXPECT_EQ(tokenizer->eos_id(), first_special + 1);
  EXPECT_EQ(tokenizer->pad_id(), first_special + 4);
  EXPECT_EQ(tokenizer->special_names().size(), 256u);
  EXPECT_FALSE(tokenizer->special("<|nothing|>").has_value());
}

TEST(Tokenizer, TokenizerJsonGivesTokenizersIds) {
  expect_golden_ids(*Tokenizer::load(golden_path("tiny_llama3.json")), "llama3");
  expect_golden_ids(*Tokenizer::load(golden_path("tiny_gpt2.json")), "gpt2");
  const auto smollm = Tokenizer::load(golden_path("tiny_smollm.json"));
  expect_golden_ids(*smollm, "smollm");
  EXPECT_EQ(smollm->splitter_name(), "smollm");
  EXPECT_EQ(smollm->special("<|im_end|>"), 2);
}

TEST(Tokenizer, SentencePieceModelGivesSentencepiecesIds) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_sentencepiece.model"));
  expect_golden_ids(*tokenizer, "sentencepiece");
  EXPECT_EQ(tokenizer->kind(), TokenizerKind::SentencePiece);
  EXPECT_EQ(tokenizer->bos_id(), tokenizer->special("<s>"));
  EXPECT_EQ(tokenizer->eos_id(), tokenizer->special("</s>"));
}

TEST(Tokenizer, FormsOfOneVocabularyAgreeInIdsAndHash) {
  const TemporaryDirectory folder;
  const auto model = Tokenizer::load(golden_path("tiny_llama3.model"));
  const auto json = Tokenizer::load(golden_path("tiny_llama3.json"));
  write_gguf_of_json(read_golden("tiny_llama3.json"), "llama-bpe", folder.path() / "v.gguf");
  const auto gguf = Tokenizer::load(folder.path() / "v.gguf");
  expect_golden_ids(*gguf, "llama3");
  EXPECT_EQ(model->hash(), json->hash());
  EXPECT_EQ(model->hash(), gguf->hash());
  EXPECT_EQ(model->hash().size(), 64u);
  EXPECT_EQ(model->vocab_size(), gguf->vocab_size());

  write_gguf_of_json(read_golden("tiny_smollm.json"), "smollm", folder.path() / "s.gguf");
  const auto smollm = Tokenizer::load(folder.path() / "s.gguf");
  expect_golden_ids(*smollm, "smollm");
  EXPECT_EQ(smollm->hash(), Tokenizer::load(golden_path("tiny_smollm.json"))->hash());
  EXPECT_NE(smollm->hash(), model->hash());
}

TEST(Tokenizer, HashSeesEveryPartOfATokenizer) {
  const Json original = read_golden("tiny_gpt2.json");
  const auto hash_of = [](const Json& json) { return Tokenizer::from_tokenizer_json(json.dump(), "changed")->hash(); };
  const std::string hash = hash_of(original);
  Json swapped = original;
  std::swap(swapped["model"]["merges"][0], swapped["model"]["merges"][1]);
  EXPECT_NE(hash_of(swapped), hash);
  Json renamed = original;
  renamed["model"]["vocab"]["!"] = original["model"]["vocab"]["#"];
  renamed["model"]["vocab"]["#"] = original["model"]["vocab"]["!"];
  EXPECT_NE(hash_of(renamed), hash);
  Json ignoring = original;
  ignoring["model"]["ignore_merges"] = true;
  EXPECT_NE(hash_of(ignoring), hash);
  Json other_split = original;
  other_split["pre_tokenizer"] = read_golden("tiny_smollm.json")["pre_tokenizer"];
  EXPECT_NE(hash_of(other_split), hash);
  Json unrelated = original;
  unrelated["version"] = "2.0";
  EXPECT_EQ(hash_of(unrelated), hash);
}

TEST(Tokenizer, GgufLlamaKindEqualsTheSentencePieceModel) {
  // The pieces as sentencepiece reads them, through the tokenizer's own listing of the model file.
  const auto model = Tokenizer::load(golden_path("tiny_sentencepiece.model"));
  const Json pieces = read_golden("tiny_sentencepiece.json");
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const Json& piece : pieces) {
    tokens.push_back(piece[0]);
    scores.push_back(piece[1]);
    types.push_back(piece[2]);
  }
  const TemporaryDirectory folder;
  formats::GgufWriter writer;
  writer.add_string("tokenizer.ggml.model", "llama");
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_f32s("tokenizer.ggml.scores", scores);
  writer.add_i32s("tokenizer.ggml.token_type", types);
  writer.write(folder.path() / "v.gguf");
  const auto gguf = Tokenizer::load(folder.path() / "v.gguf");
  expect_golden_ids(*gguf, "sentencepiece");
  EXPECT_EQ(gguf->hash(), model->hash());
}

TEST(Tokenizer, DirectoryUsesTokenizerJsonAndItsConfiguration) {
  const TemporaryDirectory folder;
  written_in(folder, "tokenizer.model", read_file(golden_path("tiny_llama3.model")));
  EXPECT_EQ(Tokenizer::load(folder.path())->bos_id(),
            Tokenizer::load(golden_path("tiny_llama3.model"))->special("<|begin_of_text|>"));
  written_in(folder, "tokenizer.json", read_file(golden_path("tiny_smollm.json")));
  written_in(folder, "tokenizer_config.json",
             R"({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "pad_token": null})");
  const auto tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer->splitter_name(), "smollm");
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_FALSE(tokenizer->wants_bos());
}

// Llama 3's repositories keep the tiktoken file one level deeper; tokenizer_config.json says of it what it says of the
// other form.
TEST(Tokenizer, DirectoryWithoutTokenizerJsonUsesTheOriginalModel) {
  const TemporaryDirectory folder;
  std::filesystem::create_directories(folder.path() / "original");
  written_in(folder, "original/tokenizer.model", read_file(golden_path("tiny_llama3.model")));
  const auto plain = Tokenizer::load(folder.path());
  EXPECT_EQ(plain->hash(), Tokenizer::load(golden_path("tiny_llama3.model"))->hash());
  EXPECT_EQ(plain->eos_id(), plain->special("<|end_of_text|>"));
  EXPECT_TRUE(plain->wants_bos());
  written_in(folder, "tokenizer_config.json", R"({"eos_token": "<|eot_id|>", "add_bos_token": false})");
  const auto configured = Tokenizer::load(folder.path());
  EXPECT_EQ(configured->eos_id(), configured->special("<|eot_id|>"));
  EXPECT_FALSE(configured->wants_bos());
}

TEST(Tokenizer, DirectoryOfASentencePieceModelUsesTheModelFile) {
  const TemporaryDirectory folder;
  written_in(folder, "tokenizer.json", R"({"model": {"type": "BPE", "byte_fallback" : true, "vocab": {"a": 0}}})");
  EXPECT_NE(error_of([&] { Tokenizer::load(folder.path()); }).find("byte_fallback"), std::string::npos);
  written_in(folder, "tokenizer.model", read_file(golden_path("tiny_sentencepiece.model")));
  EXPECT_EQ(Tokenizer::load(folder.path())->kind(), TokenizerKind::SentencePiece);
}

TEST(Tokenizer, SpecialTokenTextIsPlainText) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_llama3.json"));
  for (const int32_t id : tokenizer->encode("a<|eot_id|>b<|begin_of_text|>")) EXPECT_FALSE(tokenizer->is_special(id));
}

TEST(Tokenizer, UserDefinedTokensAreFoundLongestFirst) {
  Json json = read_golden("tiny_gpt2.json");
  const auto size = static_cast<int32_t>(json["model"]["vocab"].size());
  for (const std::string content : {"<t>", "<t>>"}) {
    json["added_tokens"].push_back({{"id", size + static_cast<int32_t>(content.size()) - 3},
                                    {"content", content},
                                    {"special", false},
                                    {"normalized", false}});
  }
  const auto tokenizer = Tokenizer::from_tokenizer_json(json.dump(), "test");
  const auto ids = tokenizer->encode("a<t>>b<t>");
  EXPECT_EQ(ids, (std::vector<int32_t>{tokenizer->encode("a")[0], size + 1, tokenizer->encode("b")[0], size}));
  EXPECT_TRUE(tokenizer->is_user_defined(size));
  EXPECT_EQ(tokenizer->decode(ids), "a<t>>b<t>");
}

TEST(Tokenizer, ThreadsGetTheSameIds) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_smollm.json"));
  std::vector<std::string> texts;
  for (const Json& row : read_golden("ids.json")) texts.push_back(row["text"]);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  const Json rows = read_golden("ids.json");
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int repeat = 0; repeat < 50; ++repeat) {
        for (size_t i = 0; i < texts.size(); ++i) {
          wrong[static_cast<size_t>(t)] +=
              tokenizer->encode(texts[i]) != rows[i]["smollm"].get<std::vector<int32_t>>() ? 1 : 0;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

void expect_real_ids(const Tokenizer& tokenizer, const std::string& column) {
  const Json rows = read_golden("ids.json"), real = read_golden("real_ids.json")[column];
  ASSERT_EQ(rows.size(), real.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(tokenizer.encode(rows[i]["text"].get<std::string>()), real[i].get<std::vector<int32_t>>())
        << rows[i]["text"];
  }
}

TEST(TokenizerReal, Llama3) {
  const auto path = file_from_environment("SLMI_LLAMA3_TOKENIZER");
  if (!path) GTEST_SKIP() << "SLMI_LLAMA3_TOKENIZER does not name Llama 3's tokenizer.model";
  const auto tokenizer = Tokenizer::load(*path);
  EXPECT_EQ(tokenizer->vocab_size(), 128256);
  EXPECT_EQ(tokenizer->special("<|begin_of_text|>"), 128000);
  EXPECT_EQ(tokenizer->special("<|eot_id|>"), 128009);
  EXPECT_EQ(tokenizer->pad_id(), 128004);
  expect_real_ids(*tokenizer, "llama3");
}

TEST(TokenizerReal, SmolLm2) {
  const auto path = file_from_environment("SLMI_SMOLLM2_GGUF");
  if (!path) GTEST_SKIP() << "SLMI_SMOLLM2_GGUF does not name SmolLM2's GGUF file";
  const auto tokenizer = Tokenizer::load(*path);
  EXPECT_EQ(tokenizer->vocab_size(), 49152);
  EXPECT_EQ(tokenizer->special("<|im_start|>"), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_FALSE(tokenizer->wants_bos());
  expect_real_ids(*tokenizer, "smollm2");
}

}  // namespace
}  // namespace slmi::text
