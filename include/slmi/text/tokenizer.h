// Text to token ids and back, for every vocabulary file a Llama-type model comes with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace slmi::formats {
class GgufFile;
}

namespace slmi::text {

class HashListing;

/// A vocabulary in GGUF's terms (tokenizer.ggml.*), such that llama.cpp and Tokenizer::from_gguf give the same ids.
struct GgufVocabulary {
  std::string model;                // "gpt2" (byte-level BPE) or "llama" (SentencePiece)
  std::string pre;                  // pre-tokenizer's name in llama.cpp
  std::vector<std::string> tokens;  // by id; unused ids are "[PAD<id>]"
  std::vector<int32_t> types;       // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<float> scores;        // "llama" alone
  std::vector<std::string> merges;  // "gpt2" alone: "left right", the first to be made first
  bool add_space_prefix = true, remove_extra_whitespaces = false;  // "llama" alone
};

/// What decode() does with special tokens.
enum class Specials { Skip, Keep };

enum class TokenizerKind {
  ByteLevelBpe,   // tiktoken, byte-level tokenizer.json, GGUF "gpt2"
  SentencePiece,  // SentencePiece .model, GGUF "llama"
};
std::string_view tokenizer_kind_name(TokenizerKind kind);

/// A vocabulary and how text is cut into it. Immutable after load: every method is const and thread-safe.
///
/// Ids equal those of tiktoken, tokenizers and sentencepiece with automatic specials off and with special-token text
/// taken as plain text. Special tokens are therefore never made by encode(): whoever wants one asks special(name) for
/// its id (the prompt builder does).
class Tokenizer {
 public:
  using Ptr = std::shared_ptr<const Tokenizer>;

  /// Loads, by content and not by name, from
  ///   a directory       its tokenizer.json, else its tokenizer.model, else its original/tokenizer.model (bos, eos,
  ///                     pad: tokenizer_config.json if there; the .model also where the tokenizer.json is a
  ///                     SentencePiece vocabulary with byte_fallback);
  ///   tokenizer.json    byte-level BPE with the pre-tokenizers of Llama 3, GPT-2 or SmolLM;
  ///   tiktoken .model   Llama 3's form: lines "base64 rank", then 256 special tokens (llama-models tokenizer.py);
  ///   SentencePiece .model;
  ///   .gguf             tokenizer.ggml.model "gpt2" (pre llama-bpe, smollm, gpt-2) or "llama".
  /// @throws Error{Input} naming the file and what is missing, broken or not supported (an unknown pre-tokenizer,
  ///         normalizer or model type is named and never guessed).
  static Ptr load(const std::filesystem::path& path);
  /// Whether a directory has one of the vocabulary files that load() looks for there.
  static bool is_in(const std::filesystem::path& directory);
  /// The same as load() from a GGUF file that is already open.
  static Ptr from_gguf(const formats::GgufFile& file);
  /// From the text of a tokenizer.json; `source` names it in errors.
  static Ptr from_tokenizer_json(std::string_view json, const std::string& source);
  /// From the bytes of a tiktoken .model.
  static Ptr from_tiktoken(std::string_view bytes, const std::string& source);

  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// Ids of `text`, with no special token among them. Empty text gives no ids.
  /// @throws Error{Input} naming the first byte that is not UTF-8.
  std::vector<int32_t> encode(std::string_view text) const;
  /// The same, appended to `ids`.
  void encode(std::string_view text, std::vector<int32_t>& ids) const;

  /// Bytes that an id stands for: not always whole characters; of a special token its name; of an unused id nothing.
  /// Valid as long as the tokenizer. @throws Error{Input} if the id is not in [0, vocab_size()).
  std::string_view token_bytes(int32_t id) const;
  /// Text of `ids`; bytes that are no UTF-8 (a cut character) become U+FFFD, as in Python's errors="replace".
  std::string decode(std::span<const int32_t> ids, Specials specials = Specials::Skip) const;

  /// Number of ids, unused ones included.
  int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }
  /// Id of a special (or user-defined) token by its text, e.g. "<|eot_id|>".
  std::optional<int32_t> special(std::string_view name) const;
  bool is_special(int32_t id) const;
  /// Added tokens that are not special: encode() does find these in text, as tokenizers and sentencepiece do.
  bool is_user_defined(int32_t id) const;
  /// Every special token's text, in the order of ids.
  std::vector<std::string> special_names() const;

  /// What the file calls beginning, end and padding; absent if it does not say and no well-known name is there.
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }
  std::optional<int32_t> pad_id() const { return pad_id_; }
  /// Whether the file asks for bos before every text. encode() never adds it; the `plain` template does.
  bool wants_bos() const { return wants_bos_; }

  TokenizerKind kind() const { return kind_; }
  /// "llama3", "gpt2", "smollm" or "sentencepiece".
  const std::string& splitter_name() const { return splitter_name_; }
  /// File that it came from.
  const std::string& source() const { return source_; }

  /// SHA-256 (hex) over a canonical listing: splitter's name, ordinary tokens as id -> bytes, merges in their order
  /// (those of one merged token by left, then right id), and of the special tokens the well-known ones as name -> id
  /// (names of reserved ones differ between files of the same tokenizer). Equal for a tiktoken .model, a tokenizer.json
  /// and a GGUF vocabulary of the same tokenizer. Computed once, on the first call.
  const std::string& hash() const;

  /// The vocabulary as a GGUF file holds it. @throws Error{Input} naming what llama.cpp's tokenizers cannot do.
  virtual GgufVocabulary gguf_vocabulary() const = 0;

 protected:
  enum class TokenType : uint8_t { Normal, Special, UserDefined, Unused };
  struct Token {
    uint32_t begin = 0, length = 0;  // in bytes_
    TokenType type = TokenType::Unused;
  };

  Tokenizer(TokenizerKind kind, std::string splitter_name, std::string source);
  virtual void encode_valid(std::string_view text, std::vector<int32_t>& ids) const = 0;  // text is valid UTF-8
  virtual std::string decode_plain(std::span<const int32_t> ids) const = 0;               // no specials among ids
  virtual void add_to_hash(HashListing& listing) const = 0;
  /// Sets an id's bytes and type; ids in between become Unused.
  void set_token(int32_t id, std::string_view bytes, TokenType type);
  std::string_view bytes_of(const Token& token) const { return {bytes_.data() + token.begin, token.length}; }
  /// Call once all tokens are set: fills in bos, eos and pad from well-known names where the file was silent.
  void finish_specials();

  std::string bytes_;  // of all tokens, end to end
  std::vector<Token> tokens_;
  std::unordered_map<std::string, int32_t> specials_;
  std::optional<int32_t> bos_id_, eos_id_, pad_id_;
  bool wants_bos_ = false;

 private:
  friend class TokenizerConfigReader;
  TokenizerKind kind_;
  std::string splitter_name_, source_;
  mutable std::once_flag hash_once_;
  mutable std::string hash_;
};

}  // namespace slmi::text
