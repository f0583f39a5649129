// A tokenizer.json as parsed: the two long lists apart from the rest, which is a small tree.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slmi::text {

struct TokenizerJson {
  std::vector<std::pair<std::string, int64_t>> vocab;       // model.vocab
  std::vector<std::pair<std::string, std::string>> merges;  // model.merges, in either of its two forms
  nlohmann::json rest;                                      // everything else; keys sorted
};

/// Parses in one pass, without a tree for the vocabulary (280,000 merges of Llama 3 would make a slow one).
/// @throws Error{Input} with line and column: not JSON, a key twice (outside the vocabulary), nesting beyond 32 levels,
///         a vocabulary or merges list of another form.
TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& source);

}  // namespace slmi::text
