// Splitting, whole-piece look-up and merging put together.
#include "bpe_tokenizer.h"

#include <algorithm>

#include "slmi/base/error.h"

namespace slmi::text {

BpeTokenizer::BpeTokenizer(SplitPattern pattern, std::string source)
    : Tokenizer(TokenizerKind::ByteLevelBpe, std::string(split_pattern_name(pattern)), std::move(source)),
      pattern_(pattern) {}

void BpeTokenizer::index_tokens() {
  table_.reserve(tokens_.size());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string_view bytes = bytes_of(tokens_[i]);
    if (tokens_[i].type == TokenType::Normal) {
      require(table_.insert(bytes, id), ErrorKind::Input, "{}: tokens {} and {} are the same {} bytes; damaged file?",
              source(), table_.find(bytes), id, bytes.size());
    } else if (tokens_[i].type == TokenType::UserDefined && !bytes.empty()) {
      user_defined_[static_cast<uint8_t>(bytes[0])].push_back(id);
      has_user_defined_ = true;
    }
  }
  for (auto& ids : user_defined_) {
    std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
      return tokens_[static_cast<size_t>(a)].length > tokens_[static_cast<size_t>(b)].length;
    });
  }
}

std::vector<std::string_view> BpeTokenizer::token_views(size_t count) const {
  std::vector<std::string_view> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = bytes_of(tokens_[i]);
  return out;
}

void BpeTokenizer::set_merges(std::vector<Merge> merges, const BpeRules& rules) {
  bpe_.build(table_, std::move(merges), rules, tokens_.size());
}

void BpeTokenizer::set_roles(std::optional<int32_t> bos, std::optional<int32_t> eos, std::optional<int32_t> pad,
                             bool wants_bos) {
  bos_id_ = bos;
  eos_id_ = eos;
  pad_id_ = pad;
  wants_bos_ = wants_bos;
  finish_specials();
}

void BpeTokenizer::encode_valid(std::string_view text, std::vector<int32_t>& ids) const {
  if (!has_user_defined_) return encode_ordinary(text, ids);
  size_t begin = 0, at = 0;
  while (at < text.size()) {
    const auto& candidates = user_defined_[static_cast<uint8_t>(text[at])];
    const auto found = std::find_if(candidates.begin(), candidates.end(), [&](int32_t id) {
      return text.substr(at).starts_with(bytes_of(tokens_[static_cast<size_t>(id)]));
    });
    if (found == candidates.end()) {
      ++at;
      continue;
    }
    encode_ordinary(text.substr(begin, at - begin), ids);
    ids.push_back(*found);
    at += tokens_[static_cast<size_t>(*found)].length;
    begin = at;
  }
  encode_ordinary(text.substr(begin), ids);
}

void BpeTokenizer::encode_ordinary(std::string_view text, std::vector<int32_t>& ids) const {
  split(pattern_, text, [&](std::string_view piece) { bpe_.encode(piece, ids); });
}

std::string BpeTokenizer::decode_plain(std::span<const int32_t> ids) const {
  std::string out;
  for (const int32_t id : ids) out += token_bytes(id);
  return out;
}

void BpeTokenizer::add_to_hash(HashListing& listing) const {
  listing.add(bpe_.rules().whole == WholePiece::Take ? "whole pieces taken" : "merges only");
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const TokenType type = tokens_[i].type;
    if (type != TokenType::Normal && type != TokenType::UserDefined) continue;
    listing.add(static_cast<int32_t>(i));
    listing.add(type == TokenType::Normal ? 0 : 1);
    listing.add(bytes_of(tokens_[i]));
  }
  listing.add("merges");
  std::vector<Merge> merges = bpe_.merges();
  for (size_t first = 0, end = 0; first < merges.size(); first = end) {
    while (end < merges.size() && merges[end].merged == merges[first].merged) ++end;
    std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.begin() + static_cast<std::ptrdiff_t>(end),
              [](const Merge& a, const Merge& b) { return a.left != b.left ? a.left < b.left : a.right < b.right; });
  }
  for (const Merge& m : merges) {
    listing.add(m.left);
    listing.add(m.right);
    listing.add(m.merged);
  }
  listing.add("specials");
}

}  // namespace slmi::text
