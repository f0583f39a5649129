// Byte-pair merging; see the header. Ranks are compared with the leftmost of equals first, as tiktoken and tokenizers
// do.
#include "bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "unicode_class.h"

namespace slmi::text {
namespace {

constexpr uint64_t kMix = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: spreads neighbouring keys over the high bits
constexpr size_t kShortPiece = 96;              // up to here a scan for the minimum beats a heap

uint64_t load_up_to_8(const char* p, size_t n) {
  uint64_t out = 0;
  std::memcpy(&out, p, n);
  return out;
}

uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a ^ kMix) * (b ^ 0xD1B54A32D192ED03u);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash_long(std::string_view bytes) {
  uint64_t hash = bytes.size();
  size_t i = 0;
  for (; i + 8 < bytes.size(); i += 8) hash = mix(hash, load_up_to_8(bytes.data() + i, 8));
  return mix(hash, load_up_to_8(bytes.data() + bytes.size() - 8, 8));
}

/// log2 of a table size that is at most two thirds full.
int table_bits(size_t num_items) {
  return std::max(4, static_cast<int>(std::bit_width(num_items * 2)));
}

/// Keys at fixed places and the least of them, in a complete binary tree: an update is one walk to the root without a
/// branch to guess wrong, which for merging is several times faster than a heap.
class MinimumTree {
 public:
  static constexpr uint64_t kNone = ~uint64_t{0};

  explicit MinimumTree(size_t num_leaves) : leaves_(std::bit_ceil(num_leaves)), nodes_(2 * leaves_, kNone) {}
  /// Before build().
  void set_leaf(size_t at, uint64_t key) { nodes_[leaves_ + at] = key; }
  void build() {
    for (size_t i = leaves_ - 1; i > 0; --i) nodes_[i] = std::min(nodes_[2 * i], nodes_[2 * i + 1]);
  }
  void update(size_t at, uint64_t key) {
    size_t i = leaves_ + at;
    nodes_[i] = key;
    for (; i > 1; i /= 2) nodes_[i / 2] = std::min(nodes_[i], nodes_[i ^ 1]);
  }
  uint64_t minimum() const { return nodes_[1]; }

 private:
  size_t leaves_;
  std::vector<uint64_t> nodes_;
};

}  // namespace

void TokenTable::reserve(size_t num_tokens) {
  const int bits = table_bits(num_tokens);
  slots_.assign(size_t{1} << bits, Slot{});
  shift_ = 64 - bits;
  bytes_by_id_.clear();
  num_tokens_ = 0;
}

uint64_t TokenTable::key_of(std::string_view bytes) {
  return bytes.size() <= 8 ? load_up_to_8(bytes.data(), bytes.size()) : hash_long(bytes);
}

size_t TokenTable::home(uint64_t key, size_t length) const {
  const uint64_t spread = (key ^ (key >> 32) ^ length) * kMix;
  return spread >> shift_;
}

bool TokenTable::insert(std::string_view bytes, int32_t id) {
  if (bytes.empty() || find(bytes) >= 0) return bytes.empty();
  const size_t mask = slots_.size() - 1;
  const uint64_t key = key_of(bytes);
  size_t at = home(key, bytes.size());
  while (slots_[at].id >= 0) at = (at + 1) & mask;
  slots_[at] = {key, id, static_cast<uint32_t>(bytes.size())};
  if (bytes_by_id_.size() <= static_cast<size_t>(id)) bytes_by_id_.resize(static_cast<size_t>(id) + 1);
  bytes_by_id_[static_cast<size_t>(id)] = bytes;
  ++num_tokens_;
  return true;
}

int32_t TokenTable::find(std::string_view bytes) const {
  const size_t mask = slots_.size() - 1;
  const uint64_t key = key_of(bytes);
  for (size_t at = home(key, bytes.size());; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id < 0) return -1;
    if (slot.key == key && slot.length == bytes.size() &&
        (bytes.size() <= 8 || bytes_by_id_[static_cast<size_t>(slot.id)] == bytes)) {
      return slot.id;
    }
  }
}

void Bpe::build(const TokenTable& table, std::vector<Merge> merges, const BpeRules& rules, size_t vocab_size) {
  table_ = &table;
  rules_ = rules;
  merges_ = std::move(merges);
  for (size_t b = 0; b < byte_ids_.size(); ++b) {
    const char c = static_cast<char>(b);
    byte_ids_[b] = table.find({&c, 1});
  }
  const int bits = table_bits(merges_.size());
  pairs_.assign(size_t{1} << bits, PairSlot{});
  pair_shift_ = 64 - bits;
  for (const Merge& m : merges_) add_pair(m.left, m.right, {m.rank, m.merged});
  byte_pairs_.assign(size_t{1} << 16, Target{});
  for (size_t a = 0; a < 256; ++a) {
    for (size_t b = 0; b < 256; ++b) byte_pairs_[a << 8 | b] = find_pair(byte_ids_[a], byte_ids_[b]);
  }
  reach_ = std::make_unique<std::atomic<Reach>[]>(vocab_size);  // Reach::Unknown is 0
}

size_t Bpe::pair_home(int32_t left, int32_t right) const {
  const uint64_t key = (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
  return ((key ^ (key >> 29)) * kMix) >> pair_shift_;
}

void Bpe::add_pair(int32_t left, int32_t right, Target target) {
  const size_t mask = pairs_.size() - 1;
  size_t at = pair_home(left, right);
  for (; pairs_[at].left >= 0; at = (at + 1) & mask) {
    if (pairs_[at].left == left && pairs_[at].right == right) return;
  }
  pairs_[at] = {left, right, target};
}

Bpe::Target Bpe::find_pair(int32_t left, int32_t right) const {
  const size_t mask = pairs_.size() - 1;
  for (size_t at = pair_home(left, right);; at = (at + 1) & mask) {
    const PairSlot& slot = pairs_[at];
    if (slot.left == left && slot.right == right) return slot.target;
    if (slot.left < 0) return {};
  }
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  const int32_t whole = table_->find(piece);
  if (whole >= 0 && (rules_.whole == WholePiece::Take || merges_reach(whole, piece))) {
    ids.push_back(whole);
    return;
  }
  merge_piece(piece, ids);
}

bool Bpe::merges_reach(int32_t id, std::string_view bytes) const {
  auto& memo = reach_[static_cast<size_t>(id)];
  Reach reach = memo.load(std::memory_order_relaxed);
  if (reach == Reach::Unknown) {
    std::vector<int32_t> ids;
    merge_piece(bytes, ids);
    reach = ids.size() == 1 && ids[0] == id ? Reach::Merges : Reach::Never;
    memo.store(reach, std::memory_order_relaxed);  // every thread computes the same
  }
  return reach == Reach::Merges;
}

void Bpe::merge_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  if (rules_.symbols == Symbols::Bytes) return merge_bytes(piece, ids);
  merge_characters(piece, ids);
}

void Bpe::merge_characters(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<Symbol> symbols;
  const auto flush = [&] {
    for (size_t i = 0; i < symbols.size(); ++i) {
      symbols[i].target = i + 1 < symbols.size() ? find_pair(symbols[i].id, symbols[i + 1].id) : Target{};
    }
    if (symbols.size() > kShortPiece) {
      merge_long(symbols, ids);
    } else if (!symbols.empty()) {
      merge_short(symbols, ids);
    }
    symbols.clear();
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t length = decode_utf8(reinterpret_cast<const uint8_t*>(piece.data()) + at).length;
    const std::string_view character = piece.substr(at, length);
    at += length;
    const int32_t id = table_->find(character);
    if (id >= 0) {
      symbols.push_back({id, {}});
      continue;
    }
    flush();  // no token holds this character, so nothing merges across it
    for (const char c : character) ids.push_back(rules_.byte_fallback[static_cast<uint8_t>(c)]);
  }
  flush();
}

void Bpe::merge_bytes(std::string_view piece, std::vector<int32_t>& ids) const {
  std::array<Symbol, kShortPiece> on_stack;
  std::vector<Symbol> on_heap;
  Symbol* symbols = on_stack.data();
  if (piece.size() > kShortPiece) {
    on_heap.resize(piece.size());
    symbols = on_heap.data();
  }
  size_t n = 0;
  int last_byte = -1;  // -1: the last symbol is no byte's token
  for (const char c : piece) {
    const auto byte = static_cast<uint8_t>(c);
    const int32_t id = byte_ids_[byte];
    if (id < 0 && !rules_.unknown) continue;
    symbols[n].id = id < 0 ? *rules_.unknown : id;
    if (n > 0) {
      symbols[n - 1].target = id >= 0 && last_byte >= 0 ? byte_pairs_[static_cast<size_t>(last_byte) << 8 | byte]
                                                        : find_pair(symbols[n - 1].id, symbols[n].id);
    }
    last_byte = id < 0 ? -1 : byte;
    ++n;
  }
  if (n == 0) return;
  symbols[n - 1].target = {};
  if (n <= kShortPiece) return merge_short({symbols, n}, ids);
  merge_long({symbols, n}, ids);
}

void Bpe::merge_short(std::span<Symbol> symbols, std::vector<int32_t>& ids) const {
  size_t n = symbols.size();
  while (true) {
    size_t best = 0;
    for (size_t i = 1; i < n; ++i) {
      if (symbols[i].target.rank < symbols[best].target.rank) best = i;
    }
    if (symbols[best].target.rank == kNever) break;  // so it is when one symbol is left
    symbols[best].id = symbols[best].target.merged;
    const bool at_end = best + 2 == n;
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(best + 2), symbols.begin() + static_cast<std::ptrdiff_t>(n),
              symbols.begin() + static_cast<std::ptrdiff_t>(best + 1));
    --n;
    if (best > 0) symbols[best - 1].target = find_pair(symbols[best - 1].id, symbols[best].id);
    symbols[best].target = at_end ? Target{} : find_pair(symbols[best].id, symbols[best + 1].id);
  }
  for (size_t i = 0; i < n; ++i) ids.push_back(symbols[i].id);
}

void Bpe::merge_long(std::span<Symbol> symbols, std::vector<int32_t>& ids) const {
  const auto n = static_cast<uint32_t>(symbols.size());
  std::vector<uint32_t> next(n), previous(n);  // a list of the symbols that are left; n: no neighbour
  MinimumTree candidates(n);                   // rank << 32 | place: the leftmost of the lowest rank is the minimum
  const auto key = [&](uint32_t at) { return static_cast<uint64_t>(symbols[at].target.rank) << 32 | at; };
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    previous[i] = i == 0 ? n : i - 1;
    candidates.set_leaf(i, key(i));
  }
  candidates.build();
  const auto update = [&](uint32_t at) {
    symbols[at].target = next[at] == n ? Target{} : find_pair(symbols[at].id, symbols[next[at]].id);
    candidates.update(at, key(at));
  };
  for (uint64_t best = candidates.minimum(); best >> 32 != kNever; best = candidates.minimum()) {
    const auto at = static_cast<uint32_t>(best);
    const uint32_t gone = next[at];
    symbols[at].id = symbols[at].target.merged;
    candidates.update(gone, MinimumTree::kNone);
    next[at] = next[gone];
    if (next[at] != n) previous[next[at]] = at;
    update(at);
    if (previous[at] != n) update(previous[at]);
  }
  for (uint32_t i = 0; i != n; i = next[i]) ids.push_back(symbols[i].id);
}

std::vector<Merge> merges_of_ranks(std::span<const std::string_view> tokens, const TokenTable& table) {
  std::vector<Merge> out;
  out.reserve(tokens.size() * 2 + 256);
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view bytes = tokens[id];
    const size_t first = out.size();
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const int32_t left = table.find(bytes.substr(0, cut));
      if (left < 0) continue;
      const int32_t right = table.find(bytes.substr(cut));
      if (right >= 0) out.push_back({left, right, static_cast<int32_t>(id), static_cast<uint32_t>(id)});
    }
    std::sort(out.begin() + static_cast<std::ptrdiff_t>(first), out.end(),
              [](const Merge& a, const Merge& b) { return a.left != b.left ? a.left < b.left : a.right < b.right; });
  }
  return out;
}

}  // namespace slmi::text
