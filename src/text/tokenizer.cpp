// What every tokenizer shares: the token table, specials, decoding, the hash.
#include "slmi/text/tokenizer.h"

#include <algorithm>
#include <array>

#include "hash_listing.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::text {
namespace {

// Special tokens that templates, bos, eos and padding use and that bear these names in every file of their tokenizers.
constexpr std::array<std::string_view, 10> kHashedSpecials = {"<|begin_of_text|>",
                                                              "<|end_of_text|>",
                                                              "<|start_header_id|>",
                                                              "<|end_header_id|>",
                                                              "<|eot_id|>",
                                                              "<|im_start|>",
                                                              "<|im_end|>",
                                                              "<|endoftext|>",
                                                              "<s>",
                                                              "</s>"};
constexpr std::array<std::string_view, 2> kBosNames = {"<|begin_of_text|>", "<s>"};
constexpr std::array<std::string_view, 3> kEosNames = {"<|end_of_text|>", "</s>", "<|endoftext|>"};
constexpr std::array<std::string_view, 1> kPadNames = {"<|finetune_right_pad_id|>"};

/// Replaces what is no UTF-8 by U+FFFD, one for each maximal beginning of a character (Unicode 16.0, section 3.9, and
/// Python's errors="replace").
std::string replace_invalid_utf8(std::string bytes) {
  uint64_t bad = 0;
  if (is_valid_utf8(bytes, &bad)) return bytes;
  std::string out;
  std::string_view rest = bytes;
  while (!is_valid_utf8(rest, &bad)) {
    out += rest.substr(0, bad);
    out += "\xEF\xBF\xBD";
    rest.remove_prefix(bad);
    // A cut character is one that valid bytes could complete: try its beginnings, the longest first.
    size_t skip = 1;
    for (size_t n = std::min<size_t>(3, rest.size()); n > 1 && skip == 1; --n) {
      for (const std::string_view tail : {"\x80", "\x80\x80", "\xBF", "\xBF\xBF"}) {
        if (is_valid_utf8(std::string(rest.substr(0, n)).append(tail))) skip = n;
      }
    }
    rest.remove_prefix(skip);
  }
  out += rest;
  return out;
}

}  // namespace

std::string_view tokenizer_kind_name(TokenizerKind kind) {
  return kind == TokenizerKind::ByteLevelBpe ? "byte-level BPE" : "SentencePiece";
}

Tokenizer::Tokenizer(TokenizerKind kind, std::string splitter_name, std::string source)
    : kind_(kind), splitter_name_(std::move(splitter_name)), source_(std::move(source)) {}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 4);
  encode(text, ids);
  return ids;
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  uint64_t bad = 0;
  if (!is_valid_utf8(text, &bad)) {
    fail(ErrorKind::Input, "text to encode: byte {} (0x{:02X}) is not valid UTF-8; got {} bytes, convert them first",
         bad, static_cast<uint8_t>(text[bad]), text.size());
  }
  if (!text.empty()) encode_valid(text, ids);
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  require(id >= 0 && id < vocab_size(), ErrorKind::Input, "token id {} is outside the vocabulary of {} ({} tokens)", id,
          source_, vocab_size());
  return bytes_of(tokens_[static_cast<size_t>(id)]);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, Specials specials) const {
  std::string out;
  std::vector<int32_t> plain;
  const auto flush = [&] {
    if (!plain.empty()) out += decode_plain(plain);
    plain.clear();
  };
  for (const int32_t id : ids) {
    const std::string_view bytes = token_bytes(id);  // checks the id
    if (!is_special(id)) {
      plain.push_back(id);
    } else if (specials == Specials::Keep) {
      flush();
      out += bytes;
    }
  }
  flush();
  return replace_invalid_utf8(std::move(out));
}

std::optional<int32_t> Tokenizer::special(std::string_view name) const {
  const auto found = specials_.find(std::string(name));
  return found == specials_.end() ? std::nullopt : std::optional(found->second);
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && tokens_[static_cast<size_t>(id)].type == TokenType::Special;
}

bool Tokenizer::is_user_defined(int32_t id) const {
  return id >= 0 && id < vocab_size() && tokens_[static_cast<size_t>(id)].type == TokenType::UserDefined;
}

std::vector<std::string> Tokenizer::special_names() const {
  std::vector<std::string> out;
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (is_special(id)) out.emplace_back(token_bytes(id));
  }
  return out;
}

const std::string& Tokenizer::hash() const {
  std::call_once(hash_once_, [&] {
    HashListing listing;
    listing.add("slmi tokenizer 1");
    listing.add(splitter_name_);
    add_to_hash(listing);
    for (const auto name : kHashedSpecials) {
      if (const auto id = special(name)) {
        listing.add(name);
        listing.add(*id);
      }
    }
    hash_ = listing.hex();
  });
  return hash_;
}

void Tokenizer::set_token(int32_t id, std::string_view bytes, TokenType type) {
  const auto at = static_cast<size_t>(id);
  if (at >= tokens_.size()) tokens_.resize(at + 1);
  Token& token = tokens_[at];
  if (bytes_of(token) != bytes) {
    token.begin = static_cast<uint32_t>(bytes_.size());
    token.length = static_cast<uint32_t>(bytes.size());
    bytes_ += bytes;
  }
  token.type = type;
  if (type == TokenType::Special || type == TokenType::UserDefined) specials_.emplace(bytes, id);
}

void Tokenizer::finish_specials() {
  const auto fill = [&](std::optional<int32_t>& id, std::span<const std::string_view> names) {
    for (const auto name : names) {
      if (!id) id = special(name);
    }
  };
  fill(bos_id_, kBosNames);
  fill(eos_id_, kEosNames);
  fill(pad_id_, kPadNames);
}

}  // namespace slmi::text
