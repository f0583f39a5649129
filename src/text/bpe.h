// Byte-pair merging over a fixed vocabulary: pieces of bytes in, ids out.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace slmi::text {

/// One merge: `left` and `right` side by side become `merged`. Of all possible ones that of the lowest rank goes first,
/// of equal ranks the leftmost.
struct Merge {
  int32_t left, right, merged;
  uint32_t rank;  // its place in the list (tokenizer.json, GGUF), the merged token's id (tiktoken), or by its score
};

/// What a vocabulary does with a piece that is a token as a whole.
enum class WholePiece {
  MustMerge,  // it is one token only if its merges lead there
  Take,       // it is that token, whether or not merges lead there (tiktoken; `ignore_merges` in tokenizer.json)
};

/// What merging begins with.
enum class Symbols {
  Bytes,       // each byte's token
  Characters,  // each character's token (SentencePiece); one without is written as the tokens in `byte_fallback`
};

struct BpeRules {
  WholePiece whole = WholePiece::MustMerge;
  Symbols symbols = Symbols::Bytes;
  std::optional<int32_t> unknown = {};  // Bytes: id for a byte without a token; absent: such bytes are dropped
  std::array<int32_t, 256> byte_fallback = {};
};

/// Bytes of tokens -> id. Open addressing; tokens of up to 8 bytes, most of those met in text, are found in the table's
/// own line. Views must outlive it.
class TokenTable {
 public:
  void reserve(size_t num_tokens);
  /// False if the bytes are there already. Empty tokens are not stored.
  bool insert(std::string_view bytes, int32_t id);
  /// -1 if absent.
  int32_t find(std::string_view bytes) const;

 private:
  struct Slot {
    uint64_t key = 0;  // up to 8 bytes: the bytes, zero-padded; longer: the hash
    int32_t id = -1;   // -1: free
    uint32_t length = 0;
  };
  static uint64_t key_of(std::string_view bytes);
  size_t home(uint64_t key, size_t length) const;

  std::vector<Slot> slots_;
  std::vector<std::string_view> bytes_by_id_;
  size_t num_tokens_ = 0;
  int shift_ = 64;
};

/// The merger. Immutable after build() but for a memo of which tokens their own merges reach; thread-safe.
class Bpe {
 public:
  /// `table` must hold every ordinary token. Where a pair stands twice, its first place counts.
  void build(const TokenTable& table, std::vector<Merge> merges, const BpeRules& rules, size_t vocab_size);

  /// Appends the ids of one piece.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

  const std::vector<Merge>& merges() const { return merges_; }
  const BpeRules& rules() const { return rules_; }

 private:
  static constexpr uint32_t kNever = 0xFFFFFFFFu;
  struct Target {
    uint32_t rank = kNever;
    int32_t merged = -1;
  };
  struct PairSlot {
    int32_t left = -1, right = -1;
    Target target;
  };
  struct Symbol {
    int32_t id;
    Target target;  // of this symbol and the next one
  };
  enum class Reach : uint8_t { Unknown, Merges, Never };

  Target find_pair(int32_t left, int32_t right) const;
  void add_pair(int32_t left, int32_t right, Target target);
  size_t pair_home(int32_t left, int32_t right) const;
  bool merges_reach(int32_t id, std::string_view bytes) const;
  void merge_piece(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_bytes(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_characters(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_short(std::span<Symbol> symbols, std::vector<int32_t>& ids) const;
  void merge_long(std::span<Symbol> symbols, std::vector<int32_t>& ids) const;

  const TokenTable* table_ = nullptr;
  std::array<int32_t, 256> byte_ids_{};
  std::vector<Target> byte_pairs_;  // [256 * 256] find_pair() of two bytes' tokens: nearly half of all look-ups
  std::vector<PairSlot> pairs_;
  int pair_shift_ = 64;
  std::vector<Merge> merges_;
  BpeRules rules_;
  std::unique_ptr<std::atomic<Reach>[]> reach_;
};

/// Every way to cut a token into two tokens, ordered by the merged token, whose id is the rank, then by left and right:
/// the merges list of a vocabulary that is given by ranks alone (tiktoken). `tokens` by id.
std::vector<Merge> merges_of_ranks(std::span<const std::string_view> tokens, const TokenTable& table);

}  // namespace slmi::text
