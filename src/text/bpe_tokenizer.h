// A byte-level BPE tokenizer, and the steps in which the readers of its files put it together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bpe.h"
#include "hash_listing.h"
#include "slmi/text/tokenizer.h"
#include "splitter.h"

namespace slmi::text {

class BpeTokenizer final : public Tokenizer {
 public:
  using Type = TokenType;

  BpeTokenizer(SplitPattern pattern, std::string source);

  // Building, in this order: tokens; index_tokens(); then find() works, for set_merges(); the rest at any time.
  using Tokenizer::set_token;
  /// @throws Error{Input} if two ordinary tokens have the same bytes.
  void index_tokens();
  int32_t find(std::string_view bytes) const { return table_.find(bytes); }
  /// All tokens' bytes by id, for merges_of_ranks().
  std::vector<std::string_view> token_views(size_t count) const;
  const TokenTable& table() const { return table_; }
  void set_merges(std::vector<Merge> merges, const BpeRules& rules);
  GgufVocabulary gguf_vocabulary() const override;
  void set_roles(std::optional<int32_t> bos, std::optional<int32_t> eos, std::optional<int32_t> pad, bool wants_bos);

 private:
  void encode_valid(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string decode_plain(std::span<const int32_t> ids) const override;
  void add_to_hash(HashListing& listing) const override;
  void encode_ordinary(std::string_view text, std::vector<int32_t>& ids) const;

  SplitPattern pattern_;
  TokenTable table_;
  Bpe bpe_;
  // Added tokens that are not special are found in the text before it is split, the longest at the leftmost place, as
  // in tokenizers. By first byte, the longest first.
  std::array<std::vector<int32_t>, 256> user_defined_;
  bool has_user_defined_ = false;
};

}  // namespace slmi::text
