// SentencePiece vocabularies, from a .model or from GGUF's "llama" kind, encoded by the sentencepiece library.
#include <sentencepiece_processor.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "bpe.h"
#include "hash_listing.h"
#include "protobuf.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "unicode_class.h"
#include "vocabulary_files.h"

namespace slmi::text {
namespace {

struct SpPiece {
  std::string text;
  float score = 0;
  int64_t type = kNormal;
};

struct SpModel {
  std::vector<SpPiece> pieces;
  uint64_t model_type = 1;  // 1 unigram, 2 BPE
  bool whitespace_as_suffix = false, byte_fallback = false, add_dummy_prefix = true, remove_extra_whitespaces = true,
       escape_whitespaces = true;
  std::string charsmap;
};

SpPiece parse_piece(std::string_view bytes, const std::string& source) {
  SpPiece out;
  for (ProtoReader in(bytes, source); in.next();) {
    if (in.field() == 1) out.text = in.payload();
    if (in.field() == 2) out.score = in.as_float();
    if (in.field() == 3) out.type = static_cast<int64_t>(in.value());
  }
  return out;
}

SpModel parse_model(std::string_view bytes, const std::string& source) {
  SpModel out;
  for (ProtoReader in(bytes, source); in.next();) {
    if (in.field() == 1) out.pieces.push_back(parse_piece(in.payload(), source));
    if (in.field() == 2) {
      for (ProtoReader spec(in.payload(), source); spec.next();) {
        if (spec.field() == 3) out.model_type = spec.value();
        if (spec.field() == 24) out.whitespace_as_suffix = spec.value() != 0;
        if (spec.field() == 35) out.byte_fallback = spec.value() != 0;
      }
    }
    if (in.field() == 3) {
      for (ProtoReader spec(in.payload(), source); spec.next();) {
        if (spec.field() == 2) out.charsmap = spec.payload();
        if (spec.field() == 3) out.add_dummy_prefix = spec.value() != 0;
        if (spec.field() == 4) out.remove_extra_whitespaces = spec.value() != 0;
        if (spec.field() == 5) out.escape_whitespaces = spec.value() != 0;
      }
    }
  }
  require(!out.pieces.empty(), ErrorKind::Input, "{}: a SentencePiece model without pieces; damaged file?", source);
  return out;
}

std::string serialize(const SpModel& model) {
  ProtoWriter out;
  int64_t bos = -1, eos = -1, unk = 0;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const SpPiece& piece = model.pieces[i];
    ProtoWriter item;
    item.add_bytes(1, piece.text);
    item.add_float(2, piece.score);
    item.add_int(3, static_cast<uint64_t>(piece.type));
    out.add_bytes(1, item.bytes());
    if (piece.type == kUnknown) unk = static_cast<int64_t>(i);
    if (piece.text == "<s>") bos = static_cast<int64_t>(i);
    if (piece.text == "</s>") eos = static_cast<int64_t>(i);
  }
  ProtoWriter trainer;
  trainer.add_int(3, model.model_type);
  trainer.add_int(4, model.pieces.size());
  trainer.add_int(35, model.byte_fallback ? 1 : 0);
  trainer.add_int(40, static_cast<uint64_t>(unk));
  trainer.add_int(41, static_cast<uint64_t>(bos));
  trainer.add_int(42, static_cast<uint64_t>(eos));
  trainer.add_bytes(45, model.pieces[static_cast<size_t>(unk)].text);
  ProtoWriter normalizer;
  normalizer.add_bytes(1, "identity");
  normalizer.add_int(3, model.add_dummy_prefix ? 1 : 0);
  normalizer.add_int(4, model.remove_extra_whitespaces ? 1 : 0);
  normalizer.add_int(5, model.escape_whitespaces ? 1 : 0);
  out.add_bytes(2, trainer.bytes());
  out.add_bytes(3, normalizer.bytes());
  return out.bytes();
}

/// "<0x0A>" -> one byte; nothing for another text.
std::optional<char> byte_of(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(value);
}

constexpr std::string_view kMetaSpace = "\xE2\x96\x81";  // U+2581 stands for a space

std::string replace_meta_space(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t at = std::min(text.find(kMetaSpace), text.size());
    out += text.substr(0, at);
    if (at == text.size()) break;
    out += ' ';
    text.remove_prefix(at + kMetaSpace.size());
  }
  return out;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(SpModel model, std::string_view bytes, const std::string& source)
      : Tokenizer(TokenizerKind::SentencePiece, "sentencepiece", source), model_(std::move(model)) {
    const auto status = processor_.LoadFromSerializedProto(absl::string_view(bytes.data(), bytes.size()));
    require(status.ok(), ErrorKind::Input, "{}: the sentencepiece library refuses this model: {}", source,
            status.ToString());
    for (size_t i = 0; i < model_.pieces.size(); ++i) {
      const SpPiece& piece = model_.pieces[i];
      const auto id = static_cast<int32_t>(i);
      if (piece.type == kControl || piece.type == kUnknown) {
        set_token(id, piece.text, TokenType::Special);
      } else if (piece.type == kUnused) {
        set_token(id, {}, TokenType::Unused);
      } else if (const auto byte = byte_of(piece.text); byte && piece.type == kByte) {
        set_token(id, {&*byte, 1}, TokenType::Normal);
      } else {
        set_token(id, replace_meta_space(piece.text),
                  piece.type == kUserDefined ? TokenType::UserDefined : TokenType::Normal);
      }
    }
    build_fast_path();
  }

  void set_roles(std::optional<int32_t> bos, std::optional<int32_t> eos, std::optional<int32_t> pad, bool wants_bos) {
    bos_id_ = bos;
    eos_id_ = eos;
    pad_id_ = pad;
    wants_bos_ = wants_bos;
    finish_specials();
  }
  GgufVocabulary gguf_vocabulary() const override {
    const bool plain = model_.model_type == 2 && model_.charsmap.empty() && model_.escape_whitespaces &&
                       !model_.whitespace_as_suffix && model_.byte_fallback;
    require(plain, ErrorKind::Input,
            "{}: llama.cpp's 'llama' tokenizer is BPE with byte fallback and no normalizer; this SentencePiece model "
            "is another kind and would give other ids there",
            source());
    GgufVocabulary out;
    out.model = "llama";
    out.pre = "default";
    for (const SpPiece& piece : model_.pieces) {
      out.tokens.push_back(piece.text);
      out.scores.push_back(piece.score);
      out.types.push_back(static_cast<int32_t>(piece.type));
    }
    out.add_space_prefix = model_.add_dummy_prefix;
    out.remove_extra_whitespaces = model_.remove_extra_whitespaces;
    return out;
  }

  void set_roles_from_model(const TokenizerConfig& config) {
    const auto id = [&](const std::optional<std::string>& name, int of_model) {
      if (name && special(*name)) return special(*name);
      return of_model >= 0 ? std::optional(static_cast<int32_t>(of_model)) : std::nullopt;
    };
    set_roles(id(config.bos, processor_.bos_id()), id(config.eos, processor_.eos_id()),
              id(config.pad, processor_.pad_id()), config.add_bos.value_or(true));
  }

 private:
  /// Most Llama-type models are of one simple kind, for which words can be merged one by one with our own merger, with
  /// the same ids and many times faster: BPE with byte fallback and an identity normalizer, every character of a piece
  /// a piece, and no piece that goes on behind a space. For any other model the table stays empty.
  void build_fast_path() {
    if (model_.model_type != 2 || !model_.byte_fallback || !model_.charsmap.empty() || !model_.escape_whitespaces ||
        model_.remove_extra_whitespaces || model_.whitespace_as_suffix) {
      return;
    }
    BpeRules rules{.symbols = Symbols::Characters};
    rules.byte_fallback.fill(-1);
    table_.reserve(model_.pieces.size());
    std::vector<std::string_view> texts(model_.pieces.size());
    std::vector<float> scores;
    for (size_t i = 0; i < model_.pieces.size(); ++i) {
      const SpPiece& piece = model_.pieces[i];
      const auto id = static_cast<int32_t>(i);
      if (piece.type == kUserDefined || piece.type == kUnused) return;
      if (piece.type == kByte) {
        if (const auto byte = byte_of(piece.text)) rules.byte_fallback[static_cast<uint8_t>(*byte)] = id;
      } else if (piece.type == kNormal) {
        if (!is_valid_utf8(piece.text) || !table_.insert(piece.text, id)) return;
        texts[i] = piece.text;
        scores.push_back(piece.score);
      }
    }
    if (std::ranges::count(rules.byte_fallback, -1) > 0 ||
        !std::ranges::all_of(texts, [&](std::string_view text) { return is_simple(text); })) {
      return;
    }
    std::ranges::sort(scores, std::greater<>{});
    auto merges = merges_of_ranks(texts, table_);
    for (Merge& merge : merges) {
      const float score = model_.pieces[static_cast<size_t>(merge.merged)].score;
      const auto place = std::ranges::lower_bound(scores, score, std::greater<>{});
      merge.rank = static_cast<uint32_t>(place - scores.begin());  // equal scores, equal ranks
    }
    bpe_.build(table_, std::move(merges), rules, model_.pieces.size());
    fast_ = true;
  }

  /// Every character is a piece, and no space comes after another character.
  bool is_simple(std::string_view text) const {
    bool seen_other = false;
    for (size_t at = 0; at < text.size();) {
      const size_t length = decode_utf8(reinterpret_cast<const uint8_t*>(text.data()) + at).length;
      const std::string_view character = text.substr(at, length);
      const bool space = character == kMetaSpace;
      if (table_.find(character) < 0 || (space && seen_other)) return false;
      seen_other = seen_other || !space;
      at += length;
    }
    return true;
  }

  /// The text as the library's normalizer leaves it, cut where a space follows another character.
  void encode_fast(std::string_view text, std::vector<int32_t>& ids) const {
    std::string word(model_.add_dummy_prefix ? kMetaSpace : "");
    bool only_spaces = true;
    const auto flush = [&] {
      if (!word.empty()) bpe_.encode(word, ids);
      word.clear();
      only_spaces = true;
    };
    while (!text.empty()) {
      const bool space = text[0] == ' ' || text.starts_with(kMetaSpace);
      if (space) {
        if (!only_spaces) flush();
        word += kMetaSpace;
        text.remove_prefix(text[0] == ' ' ? 1 : kMetaSpace.size());
        continue;
      }
      only_spaces = false;
      size_t end = 1;
      while (end < text.size() && text[end] != ' ' && text[end] != kMetaSpace[0]) ++end;
      word += text.substr(0, end);
      text.remove_prefix(end);
    }
    flush();
  }

  void encode_valid(std::string_view text, std::vector<int32_t>& ids) const override {
    if (fast_) return encode_fast(text, ids);
    std::vector<int> out;
    const auto status = processor_.Encode(absl::string_view(text.data(), text.size()), &out);
    require(status.ok(), ErrorKind::Internal, "{}: encoding failed: {}", source(), status.ToString());
    ids.insert(ids.end(), out.begin(), out.end());
  }

  std::string decode_plain(std::span<const int32_t> ids) const override {
    std::string out;
    const auto status = processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &out);
    require(status.ok(), ErrorKind::Internal, "{}: decoding failed: {}", source(), status.ToString());
    return out;
  }

  void add_to_hash(HashListing& listing) const override {
    listing.add(model_.model_type == 2 ? "bpe" : "unigram");
    for (const bool flag :
         {model_.byte_fallback, model_.add_dummy_prefix, model_.remove_extra_whitespaces, model_.escape_whitespaces}) {
      listing.add(flag ? 1 : 0);
    }
    listing.add(model_.charsmap);
    for (size_t i = 0; i < model_.pieces.size(); ++i) {
      const SpPiece& piece = model_.pieces[i];
      if (piece.type == kControl || piece.type == kUnused) continue;
      listing.add(static_cast<int32_t>(i));
      listing.add(static_cast<uint32_t>(piece.type));
      listing.add(std::bit_cast<uint32_t>(piece.score));
      listing.add(piece.text);
    }
  }

  SpModel model_;
  TokenTable table_;
  Bpe bpe_;
  bool fast_ = false;
  sentencepiece::SentencePieceProcessor processor_;
};

bool flag_of_key(const formats::GgufFile& file, std::string_view key, bool otherwise) {
  const auto* value = file.find(key);
  return value != nullptr ? value->as_bool() : otherwise;
}

}  // namespace

Tokenizer::Ptr read_sentencepiece(std::string_view bytes, const std::string& source, const TokenizerConfig& config) {
  auto tokenizer = std::make_shared<SentencePieceTokenizer>(parse_model(bytes, source), bytes, source);
  tokenizer->set_roles_from_model(config);
  return tokenizer;
}

Tokenizer::Ptr read_gguf_sentencepiece(const formats::GgufFile& file) {
  const auto texts = file.value("tokenizer.ggml.tokens").strings();
  const auto scores = file.value("tokenizer.ggml.scores").floats();
  const auto types = file.value("tokenizer.ggml.token_type").ints();
  require(!texts.empty() && scores.size() == texts.size() && types.size() == texts.size(), ErrorKind::Input,
          "{}: {} tokens, {} scores and {} token types; a 'llama' vocabulary has as many of each", file.source(),
          texts.size(), scores.size(), types.size());
  SpModel model;
  model.model_type = 2;
  model.add_dummy_prefix = flag_of_key(file, "tokenizer.ggml.add_space_prefix", true);
  model.remove_extra_whitespaces = flag_of_key(file, "tokenizer.ggml.remove_extra_whitespaces", false);
  for (size_t i = 0; i < texts.size(); ++i) {
    require(std::isfinite(scores[i]) && types[i] >= kNormal && types[i] <= kByte, ErrorKind::Input,
            "{}: token {} \"{}\": score {} or type {} is out of range", file.source(), i, texts[i], scores[i],
            types[i]);
    model.pieces.push_back({std::string(texts[i]), scores[i], types[i]});
    model.byte_fallback = model.byte_fallback || types[i] == kByte;
  }
  const std::string bytes = serialize(model);
  auto tokenizer = std::make_shared<SentencePieceTokenizer>(std::move(model), bytes, file.source());
  const int64_t size = tokenizer->vocab_size();
  tokenizer->set_roles(gguf_token_id(file, "tokenizer.ggml.bos_token_id", size),
                       gguf_token_id(file, "tokenizer.ggml.eos_token_id", size),
                       gguf_token_id(file, "tokenizer.ggml.padding_token_id", size),
                       flag_of_key(file, "tokenizer.ggml.add_bos_token", true));
  return tokenizer;
}

}  // namespace slmi::text
