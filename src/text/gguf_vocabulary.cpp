// GGUF vocabularies of the "gpt2" kind (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, tokenizer.ggml.*).
#include <array>

#include "bpe_tokenizer.h"
#include "byte_alphabet.h"
#include "slmi/base/error.h"
#include "vocabulary_files.h"

namespace slmi::text {
namespace {

struct KnownPre {
  std::string_view name;
  SplitPattern pattern;
  WholePiece whole;
};
// Names of llama.cpp src/llama-vocab.cpp.
constexpr std::array<KnownPre, 5> kKnownPres = {{{"llama-bpe", SplitPattern::Llama3, WholePiece::Take},
                                                 {"llama3", SplitPattern::Llama3, WholePiece::Take},
                                                 {"llama-v3", SplitPattern::Llama3, WholePiece::Take},
                                                 {"smollm", SplitPattern::SmolLm, WholePiece::MustMerge},
                                                 {"gpt-2", SplitPattern::Gpt2, WholePiece::MustMerge}}};

const KnownPre& known_pre(const formats::GgufFile& file) {
  require(file.has_key("tokenizer.ggml.pre"), ErrorKind::Input,
          "{}: no key 'tokenizer.ggml.pre', so how text is split is unknown; convert the model again with a current "
          "converter (known here: llama-bpe, smollm, gpt-2)",
          file.source());
  const std::string_view pre = file.value("tokenizer.ggml.pre").as_string();
  for (const auto& known : kKnownPres) {
    if (known.name == pre) return known;
  }
  fail(ErrorKind::Input,
       "{}: pre-tokenizer '{}' (tokenizer.ggml.pre) is not supported; known: llama-bpe, smollm, gpt-2", file.source(),
       pre);
}

/// The name that llama.cpp knows these rules by.
std::string_view pre_name(SplitPattern pattern, WholePiece whole, const std::string& source) {
  for (const auto& known : kKnownPres)
    if (known.pattern == pattern && known.whole == whole) return known.name;
  fail(ErrorKind::Input,
       "{}: splits text as {} {} taking whole pieces as tokens; llama.cpp has no pre-tokenizer of that kind", source,
       split_pattern_name(pattern), whole == WholePiece::Take ? "and" : "without");
}

/// Types of all tokens; without the key all are ordinary.
std::vector<int64_t> token_types(const formats::GgufFile& file, size_t num_tokens) {
  const auto* value = file.find("tokenizer.ggml.token_type");
  std::vector<int64_t> types = value ? value->ints() : std::vector<int64_t>(num_tokens, kNormal);
  require(types.size() == num_tokens, ErrorKind::Input, "{}: {} tokens but {} token types", file.source(), num_tokens,
          types.size());
  return types;
}

void add_tokens(const formats::GgufFile& file, BpeTokenizer& tokenizer) {
  const auto texts = file.value("tokenizer.ggml.tokens").strings();
  require(!texts.empty(), ErrorKind::Input, "{}: tokenizer.ggml.tokens is empty", file.source());
  const auto types = token_types(file, texts.size());
  std::string bytes;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (types[i] == kControl || types[i] == kUnknown) {
      tokenizer.set_token(id, texts[i], BpeTokenizer::Type::Special);
    } else if (types[i] == kUserDefined) {
      tokenizer.set_token(id, texts[i], BpeTokenizer::Type::UserDefined);
    } else if (types[i] == kNormal) {
      bytes.clear();
      require(append_alphabet_bytes(texts[i], bytes), ErrorKind::Input,
              "{}: token {} \"{}\" has a character outside the byte-level alphabet", file.source(), i, texts[i]);
      tokenizer.set_token(id, bytes, BpeTokenizer::Type::Normal);
    } else {
      tokenizer.set_token(id, {}, BpeTokenizer::Type::Unused);
    }
  }
}

std::vector<Merge> read_merges(const formats::GgufFile& file, const BpeTokenizer& tokenizer) {
  const auto lines = file.value("tokenizer.ggml.merges").strings();
  std::vector<Merge> out;
  out.reserve(lines.size());
  std::string bytes;
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t space = lines[i].find(' ', 1);
    bytes.clear();
    require(space != std::string_view::npos && append_alphabet_bytes(lines[i].substr(0, space), bytes),
            ErrorKind::Input, "{}: merge {} \"{}\" is not two tokens with a space between", file.source(), i, lines[i]);
    const size_t cut = bytes.size();
    require(append_alphabet_bytes(lines[i].substr(space + 1), bytes), ErrorKind::Input,
            "{}: merge {} \"{}\" is not two tokens with a space between", file.source(), i, lines[i]);
    const std::string_view both = bytes;
    const Merge merge{tokenizer.find(both.substr(0, cut)), tokenizer.find(both.substr(cut)), tokenizer.find(both),
                      static_cast<uint32_t>(i)};
    require(merge.left >= 0 && merge.right >= 0 && merge.merged >= 0, ErrorKind::Input,
            "{}: merge {} \"{}\": a part, or the two together, is not in the vocabulary", file.source(), i, lines[i]);
    out.push_back(merge);
  }
  return out;
}

}  // namespace

GgufVocabulary BpeTokenizer::gguf_vocabulary() const {
  require(!bpe_.rules().unknown, ErrorKind::Input,
          "{}: bytes without a token become an unknown token, which llama.cpp's byte-level tokenizer cannot do",
          source());
  GgufVocabulary out;
  out.model = "gpt2";
  out.pre = pre_name(pattern_, bpe_.rules().whole, source());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view bytes = bytes_of(tokens_[i]);
    const TokenType type = tokens_[i].type;
    out.tokens.push_back(type == TokenType::Normal   ? alphabet_text(bytes)
                         : type == TokenType::Unused ? fmt::format("[PAD{}]", i)
                                                     : std::string(bytes));
    out.types.push_back(type == TokenType::Normal        ? kNormal
                        : type == TokenType::Special     ? kControl
                        : type == TokenType::UserDefined ? kUserDefined
                                                         : kUnused);
  }
  const auto text = [&](int32_t id) -> const std::string& { return out.tokens[static_cast<size_t>(id)]; };
  for (const Merge& merge : bpe_.merges()) out.merges.push_back(text(merge.left) + " " + text(merge.right));
  return out;
}

std::optional<int32_t> gguf_token_id(const formats::GgufFile& file, std::string_view key, int64_t vocab_size) {
  const auto* value = file.find(key);
  if (value == nullptr) return std::nullopt;
  const int64_t id = value->as_int();
  require(id >= 0 && id < vocab_size, ErrorKind::Input, "{}: {} = {} is outside the vocabulary of {} tokens",
          file.source(), key, id, vocab_size);
  return static_cast<int32_t>(id);
}

Tokenizer::Ptr read_gguf_bpe(const formats::GgufFile& file) {
  const KnownPre& pre = known_pre(file);
  auto tokenizer = std::make_shared<BpeTokenizer>(pre.pattern, file.source());
  add_tokens(file, *tokenizer);
  tokenizer->index_tokens();
  tokenizer->set_merges(read_merges(file, *tokenizer), {.whole = pre.whole});
  const auto* add_bos = file.find("tokenizer.ggml.add_bos_token");
  const int64_t size = tokenizer->vocab_size();
  tokenizer->set_roles(gguf_token_id(file, "tokenizer.ggml.bos_token_id", size),
                       gguf_token_id(file, "tokenizer.ggml.eos_token_id", size),
                       gguf_token_id(file, "tokenizer.ggml.padding_token_id", size),
                       add_bos != nullptr ? add_bos->as_bool() : pre.pattern == SplitPattern::Llama3);
  return tokenizer;
}

}  // namespace slmi::text
