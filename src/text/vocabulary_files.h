// Readers of the vocabulary files, one for each kind; Tokenizer::load picks among them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "slmi/formats/gguf.h"
#include "slmi/text/tokenizer.h"

namespace slmi::text {

/// What a tokenizer_config.json beside the vocabulary says; absent fields stay absent.
struct TokenizerConfig {
  std::optional<std::string> bos, eos, pad;
  std::optional<bool> add_bos;
};
TokenizerConfig read_tokenizer_config(const std::filesystem::path& path);

/// The vocabulary of a directory that is no tokenizer.json: its tokenizer.model, else the one in original/, where
/// Llama 3 repositories keep it; empty if it has none.
std::filesystem::path model_file_in(const std::filesystem::path& directory);

Tokenizer::Ptr read_tiktoken(std::string_view bytes, const std::string& source, const TokenizerConfig& config);
Tokenizer::Ptr read_tokenizer_json(std::string_view json, const std::string& source, const TokenizerConfig& config);
Tokenizer::Ptr read_gguf_bpe(const formats::GgufFile& file);
Tokenizer::Ptr read_gguf_sentencepiece(const formats::GgufFile& file);
Tokenizer::Ptr read_sentencepiece(std::string_view bytes, const std::string& source, const TokenizerConfig& config);

/// Kinds of tokens as GGUF numbers them, after sentencepiece_model.proto.
enum GgufTokenType : int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

/// A token id among the metadata; absent if the key is. @throws Error{Input} if it is outside the vocabulary.
std::optional<int32_t> gguf_token_id(const formats::GgufFile& file, std::string_view key, int64_t vocab_size);

/// True if a file's bytes look like a tiktoken .model: a first line of base64, a space and a number.
bool looks_like_tiktoken(std::string_view bytes);

}  // namespace slmi::text
