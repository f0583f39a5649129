// A tiny random model that looks, file by file, like the published Llama 3.2 1B Instruct: same keys, same file names,
// the tokenizer in each of its forms. For the rehearsal of what a user will do with the real one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support.h"

namespace slmi::cli::testing {

inline constexpr int64_t kLlama3Ranks = 128000;  // ordinary tokens; 256 special ones follow
inline constexpr int64_t kLlama3Vocabulary = kLlama3Ranks + 256;

/// Bytes of the ordinary tokens, in the order of ranks: 256 single bytes as the published file orders them, pairs
/// learned on the bundled requests, and filler so that the special tokens have the published ids.
std::vector<std::string> tiny_llama3_tokens();
/// The same list from a tiktoken file, read line by line here.
std::vector<std::string> tokens_of_tiktoken(const fs::path& file);

/// "base64 rank" a line.
std::string tiktoken_text(const std::vector<std::string>& tokens);
/// The vocabulary as tokenizer.json, special tokens under the names that this file has: every way to split a token into
/// two of lower rank is a merge, in the order of ranks (the rule by which published files were made of tiktoken ones).
std::string tokenizer_json_text(const std::vector<std::string>& tokens);

enum class WeightFiles { Single, Sharded };
enum class TokenizerFile {
  Json,      // tokenizer.json
  Beside,    // tokenizer.model
  Original,  // original/tokenizer.model
};

/// What the generation test wants of the weights. All ids of a chain: the first ends the prompt; after each comes the
/// next, the last for ever.
struct Llama32Options {
  WeightFiles weights = WeightFiles::Single;
  TokenizerFile tokenizer = TokenizerFile::Json;
  std::vector<int64_t> chain = {};  // empty: plain random weights
};
void write_llama32(const fs::path& directory, const std::vector<std::string>& tokens, const Llama32Options& options);

/// config.json and generation_config.json as written there.
Json llama32_config();
Json llama32_generation_config();

/// The first `count` lines of data/snips/`name`.
std::string snips_rows(const std::string& name, int64_t count);

}  // namespace slmi::cli::testing
