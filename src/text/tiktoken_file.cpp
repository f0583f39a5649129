// Llama 3's tokenizer.model: lines "base64 rank" (llama-models models/llama3/tokenizer.py, tiktoken load.py).
#include <array>
#include <charconv>

#include "bpe_tokenizer.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "vocabulary_files.h"

namespace slmi::text {
namespace {

constexpr int kNumSpecials = 256;
// The named ones among the 256, by offset; the rest are reserved (tokenizer.py, and HF's names where that has none).
constexpr std::array<std::pair<int, std::string_view>, 9> kNamedSpecials = {{{0, "<|begin_of_text|>"},
                                                                             {1, "<|end_of_text|>"},
                                                                             {4, "<|finetune_right_pad_id|>"},
                                                                             {5, "<|step_id|>"},
                                                                             {6, "<|start_header_id|>"},
                                                                             {7, "<|end_header_id|>"},
                                                                             {8, "<|eom_id|>"},
                                                                             {9, "<|eot_id|>"},
                                                                             {10, "<|python_tag|>"}}};

constexpr std::array<int8_t, 256> make_base64() {
  std::array<int8_t, 256> out{};
  for (auto& value : out) value = -1;
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kAlphabet.size(); ++i) out[static_cast<uint8_t>(kAlphabet[i])] = static_cast<int8_t>(i);
  return out;
}
constexpr std::array<int8_t, 256> kBase64 = make_base64();

/// Appends the bytes of padded base64 (RFC 4648). False if it is not that.
bool decode_base64(std::string_view text, std::string& out) {
  if (text.empty() || text.size() % 4 != 0) return false;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  const size_t digits = text.size() - padding;
  uint32_t bits = 0;
  int have = 0;
  for (size_t i = 0; i < digits; ++i) {
    const int value = kBase64[static_cast<uint8_t>(text[i])];
    if (value < 0) return false;
    bits = (bits << 6) | static_cast<uint32_t>(value);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += static_cast<char>((bits >> have) & 0xFF);
    }
  }
  return true;
}

struct Line {
  std::string_view base64;
  int32_t rank = 0;
};

std::optional<Line> parse_line(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  Line out{line.substr(0, space), 0};
  const char* end = line.data() + line.size();
  const auto [stop, error] = std::from_chars(line.data() + space + 1, end, out.rank);
  if (error != std::errc{} || stop != end || out.rank < 0) return std::nullopt;
  return out;
}

void add_specials(BpeTokenizer& tokenizer, int32_t first) {
  int reserved = 0;
  for (int offset = 0; offset < kNumSpecials; ++offset) {
    std::string name;
    for (const auto& [at, known] : kNamedSpecials) {
      if (at == offset) name = known;
    }
    if (name.empty()) name = fmt::format("<|reserved_special_token_{}|>", reserved++);
    tokenizer.set_token(first + offset, name, BpeTokenizer::Type::Special);
  }
}

}  // namespace

bool looks_like_tiktoken(std::string_view bytes) {
  const auto line = parse_line(bytes.substr(0, std::min(bytes.find('\n'), bytes.find('\r'))));
  std::string token;
  return line && decode_base64(line->base64, token);
}

Tokenizer::Ptr read_tiktoken(std::string_view bytes, const std::string& source, const TokenizerConfig& config) {
  auto tokenizer = std::make_shared<BpeTokenizer>(SplitPattern::Llama3, source);
  int32_t count = 0;
  uint64_t line_number = 0;
  std::string token;
  for (size_t at = 0; at < bytes.size();) {
    const size_t newline = std::min(bytes.find('\n', at), bytes.size());
    std::string_view text = bytes.substr(at, newline - at);
    at = newline + 1;
    ++line_number;
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    const auto line = parse_line(text);
    token.clear();
    require(line && decode_base64(line->base64, token), ErrorKind::Input,
            "{}:{}: expected a token in base64, a space and its rank; got \"{}\"", source, line_number,
            is_valid_utf8(text) ? text.substr(0, 60) : "(not text)");
    require(line->rank == count, ErrorKind::Input,
            "{}:{}: rank {} where {} is due; ranks must count up from 0: damaged or sorted file?", source, line_number,
            line->rank, count);
    tokenizer->set_token(count++, token, BpeTokenizer::Type::Normal);
  }
  tokenizer->index_tokens();
  for (int b = 0; b < 256; ++b) {
    const char c = static_cast<char>(b);
    require(
        tokenizer->find({&c, 1}) >= 0, ErrorKind::Input,
        "{}: no token for the single byte 0x{:02X} among {} tokens; a byte-level vocabulary has all 256: cut short?",
        source, b, count);
  }
  add_specials(*tokenizer, count);
  tokenizer->set_merges(merges_of_ranks(tokenizer->token_views(static_cast<size_t>(count)), tokenizer->table()),
                        {.whole = WholePiece::Take});
  const auto id = [&](const std::optional<std::string>& name) {
    return name ? tokenizer->special(*name) : std::nullopt;
  };
  tokenizer->set_roles(id(config.bos), id(config.eos), id(config.pad), config.add_bos.value_or(true));
  return tokenizer;
}

}  // namespace slmi::text
