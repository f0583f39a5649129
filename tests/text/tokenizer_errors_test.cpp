// Broken and unsupported tokenizer files: each has a message that names the place.
#include <gtest/gtest.h>

#include "slmi/base/error.h"
#include "slmi/formats/gguf.h"
#include "slmi/text/tokenizer.h"
#include "test_support.h"

namespace slmi::text {
namespace {

using testing::Test;

void expect_message(const std::string& message, std::initializer_list<const char*> parts) {
  EXPECT_FALSE(message.empty()) << "no error was thrown";
  for (const char* part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "wanted " << part << " in: " << message;
}

/// The error for tiny_gpt2.json with one thing changed.
template <class Change>
std::string error_with(Change&& change) {
  Json json = read_golden("tiny_gpt2.json");
  change(json);
  return error_of([&] { Tokenizer::from_tokenizer_json(json.dump(), "t.json"); });
}

TEST(TokenizerErrors, TextThatIsNotUtf8NamesTheByte) {
  const auto tokenizer = Tokenizer::load(golden_path("tiny_gpt2.json"));
  expect_message(error_of([&] { tokenizer->encode("abc\xFFz"); }), {"byte 3", "0xFF", "UTF-8"});
  const auto sp = Tokenizer::load(golden_path("tiny_sentencepiece.model"));
  expect_message(error_of([&] { sp->encode("\xE4\xB8"); }), {"byte 0"});
}

TEST(TokenizerErrors, JsonSyntaxNamesLineAndColumn) {
  expect_message(error_of([] { Tokenizer::from_tokenizer_json("{\n \"model\": }", "t.json"); }), {"t.json:2:", "JSON"});
  expect_message(error_of([] { Tokenizer::from_tokenizer_json("[]", "t.json"); }), {"t.json", "model"});
  expect_message(error_of([] { Tokenizer::from_tokenizer_json(R"({"a": 1, "a": 2})", "t.json"); }), {"\"a\"", "twice"});
  expect_message(error_of([] { Tokenizer::from_tokenizer_json(std::string(100, '['), "t.json"); }), {"nested"});
}

TEST(TokenizerErrors, UnsupportedPartsAreNamed) {
  expect_message(error_with([](Json& j) { j["model"]["type"] = "WordPiece"; }), {"t.json", "WordPiece"});
  expect_message(error_with([](Json& j) { j["model"]["byte_fallback"] = true; }), {"byte_fallback", "tokenizer.model"});
  expect_message(error_with([](Json& j) { j["model"]["dropout"] = 0.1; }), {"dropout"});
  expect_message(error_with([](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }), {"end_of_word_suffix"});
  expect_message(error_with([](Json& j) { j["normalizer"] = {{"type", "NFC"}}; }), {"normalizer", "NFC"});
  expect_message(error_with([](Json& j) {
                   j["pre_tokenizer"] = {{"type", "Metaspace"}};
                 }),
                 {"pre-tokenizer", "Metaspace"});
  expect_message(error_with([](Json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; }), {"pre-tokenizer"});
  expect_message(error_with([](Json& j) {
                   j["pre_tokenizer"] = read_golden("tiny_llama3.json")["pre_tokenizer"];
                   j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+";
                 }),
                 {"pre-tokenizer", "\\\\w+"});
}

TEST(TokenizerErrors, BrokenVocabulariesAreNamed) {
  expect_message(error_with([](Json& j) { j["model"]["vocab"]["!"] = 7'000'000'000; }), {"\"!\"", "id"});
  expect_message(error_with([](Json& j) { j["model"]["vocab"]["!"] = -1; }), {"\"!\"", "-1"});
  expect_message(error_with([](Json& j) { j["model"]["vocab"]["!"] = j["model"]["vocab"]["#"]; }), {"twice"});
  expect_message(error_with([](Json& j) { j["model"]["vocab"]["!"] = "x"; }), {"whole numbers"});
  expect_message(error_with([](Json& j) { j["model"]["merges"].push_back("nospace"); }), {"nospace"});
  expect_message(error_with([](Json& j) { j["model"]["merges"].push_back({"a", "b", "c"}); }), {"3 tokens"});
  expect_message(error_with([](Json& j) { j["model"]["merges"].push_back("q zzz"); }), {"q", "zzz", "vocabulary"});
  expect_message(error_with([](Json& j) { j["model"]["vocab"] = Json::object(); }), {"vocab"});
  expect_message(error_with([](Json& j) { j["model"]["unk_token"] = "<nope>"; }), {"<nope>"});
  expect_message(error_with([](Json& j) { j["added_tokens"].push_back({{"id", 3}}); }), {"added token"});
}

TEST(TokenizerErrors, TiktokenFilesNameTheLine) {
  expect_message(error_of([] { Tokenizer::from_tiktoken("IQ== 0\nIg== 5\n", "t.model"); }), {"t.model:2", "rank 5"});
  expect_message(error_of([] { Tokenizer::from_tiktoken("IQ== 0\n!!!! 1\n", "t.model"); }), {"t.model:2", "base64"});
  expect_message(error_of([] { Tokenizer::from_tiktoken("IQ== 0\n", "t.model"); }), {"single byte 0x00"});
  std::string twice = read_file(golden_path("tiny_llama3.model"));
  twice += fmt::format("IQ== {}\n", std::count(twice.begin(), twice.end(), '\n'));
  expect_message(error_of([&] { Tokenizer::from_tiktoken(twice, "t.model"); }), {"same"});
}

TEST(TokenizerErrors, FilesOfNoKnownKind) {
  const TemporaryDirectory folder;
  expect_message(error_of([&] {
                   Tokenizer::load(written_in(folder, "x.bin",
                                              "\x7F"
                                              "ELF..."));
                 }),
                 {"x.bin", "no tokenizer"});
  expect_message(error_of([&] { Tokenizer::load(written_in(folder, "empty", "")); }), {"empty"});
  expect_message(error_of([&] { Tokenizer::load(folder.path() / "absent.json"); }), {"absent.json"});
  const TemporaryDirectory nothing;
  expect_message(error_of([&] { Tokenizer::load(nothing.path()); }), {"no tokenizer.json"});
  const std::string sp = read_file(golden_path("tiny_sentencepiece.model"));
  expect_message(error_of([&] { Tokenizer::load(written_in(folder, "cut.model", sp.substr(0, sp.size() / 2))); }),
                 {"cut"});
}

TEST(TokenizerErrors, GgufVocabulariesAreNamed) {
  const TemporaryDirectory folder;
  const auto load = [&](auto&& fill) {
    formats::GgufWriter writer;
    fill(writer);
    writer.write(folder.path() / "v.gguf");
    return error_of([&] { Tokenizer::load(folder.path() / "v.gguf"); });
  };
  const std::vector<std::string> tokens = {"a", "b"};
  expect_message(load([](auto& w) { w.add_string("tokenizer.ggml.model", "bert"); }), {"v.gguf", "bert"});
  expect_message(load([](auto& w) {
                   w.add_string("tokenizer.ggml.model", "gpt2");
                   w.add_string("tokenizer.ggml.pre", "qwen2");
                 }),
                 {"qwen2", "pre-tokenizer"});
  expect_message(load([](auto& w) { w.add_string("tokenizer.ggml.model", "gpt2"); }), {"tokenizer.ggml.pre"});
  expect_message(load([&](auto& w) {
                   w.add_string("tokenizer.ggml.model", "gpt2");
                   w.add_string("tokenizer.ggml.pre", "smollm");
                   w.add_strings("tokenizer.ggml.tokens", tokens);
                   w.add_i32s("tokenizer.ggml.token_type", std::vector<int32_t>{1});
                 }),
                 {"2 tokens", "1 token types"});
  expect_message(load([&](auto& w) {
                   w.add_string("tokenizer.ggml.model", "gpt2");
                   w.add_string("tokenizer.ggml.pre", "smollm");
                   w.add_strings("tokenizer.ggml.tokens", tokens);
                   w.add_strings("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
                 }),
                 {"merge 0", "vocabulary"});
}

}  // namespace
}  // namespace slmi::text
