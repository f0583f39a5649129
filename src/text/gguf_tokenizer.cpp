// Writing tokenizer.* metadata; see the header.
#include "slmi/text/gguf_tokenizer.h"

#include <algorithm>
#include <array>

#include "slmi/base/error.h"
#include "vocabulary_files.h"

namespace slmi::text {
namespace {

constexpr std::string_view kPrefix = "tokenizer.";
// What follows from the template, not from the vocabulary: written anew, never carried over.
constexpr std::array<std::string_view, 5> kOfTemplate = {kGgufTemplateKey, "tokenizer.chat_templates",
                                                         "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                                         "tokenizer.ggml.add_bos_token"};

bool follows_from_template(std::string_view key) {
  return std::ranges::count(kOfTemplate, key) > 0 || key.starts_with("tokenizer.chat_template.");
}

void carry_over(formats::GgufWriter& writer, const formats::GgufFile& file) {
  for (const auto& [key, value] : file.metadata())
    if (key.starts_with(kPrefix) && !follows_from_template(key)) writer.add_value(key, value);
}

void add_vocabulary(formats::GgufWriter& writer, const Tokenizer& tokenizer, int64_t vocab_size) {
  GgufVocabulary v = tokenizer.gguf_vocabulary();
  for (auto id = static_cast<int64_t>(v.tokens.size()); id < vocab_size; ++id) {
    v.tokens.push_back(fmt::format("[PAD{}]", id));
    v.types.push_back(kUnused);
    if (!v.scores.empty()) v.scores.push_back(0.0F);
  }
  writer.add_string("tokenizer.ggml.model", v.model);
  writer.add_string("tokenizer.ggml.pre", v.pre);
  writer.add_strings("tokenizer.ggml.tokens", v.tokens);
  if (v.model == "llama") writer.add_f32s("tokenizer.ggml.scores", v.scores);
  writer.add_i32s("tokenizer.ggml.token_type", v.types);
  if (v.model == "gpt2") writer.add_strings("tokenizer.ggml.merges", v.merges);
  if (v.model == "llama") {
    writer.add_bool("tokenizer.ggml.add_space_prefix", v.add_space_prefix);
    writer.add_bool("tokenizer.ggml.remove_extra_whitespaces", v.remove_extra_whitespaces);
  }
  const auto id = [&](const char* key, std::optional<int32_t> value) {
    if (value) writer.add_u32(key, static_cast<uint32_t>(*value));
  };
  const auto unknown = std::ranges::find(v.types, static_cast<int32_t>(kUnknown));
  if (unknown != v.types.end()) id("tokenizer.ggml.unknown_token_id", static_cast<int32_t>(unknown - v.types.begin()));
  id("tokenizer.ggml.padding_token_id", tokenizer.pad_id());
}

}  // namespace

void add_gguf_tokenizer(formats::GgufWriter& writer, const PromptBuilder& prompts, int64_t vocab_size,
                        const formats::GgufFile* carried) {
  const Tokenizer& tokenizer = prompts.tokenizer();
  const ChatTemplate& chat_template = prompts.chat_template();
  if (carried != nullptr && tokenizer.vocab_size() == vocab_size) {
    carry_over(writer, *carried);
  } else {
    add_vocabulary(writer, tokenizer, vocab_size);
  }
  const bool has_bos = !chat_template.bos().empty();
  const auto bos = has_bos ? tokenizer.special(chat_template.bos()) : tokenizer.bos_id();
  if (bos) writer.add_u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*bos));
  writer.add_u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(prompts.stop_ids().front()));
  writer.add_bool("tokenizer.ggml.add_bos_token", has_bos);
  writer.add_string(kGgufTemplateKey, chat_template.jinja());
}

}  // namespace slmi::text
