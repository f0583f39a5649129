// A tokenizer as GGUF metadata, as llama.cpp and what builds on it read it.
#pragma once

#include "slmi/formats/gguf.h"
#include "slmi/text/prompt_builder.h"

namespace slmi::text {

inline constexpr const char* kGgufTemplateKey = "tokenizer.chat_template";

/// Adds tokenizer.ggml.* and tokenizer.chat_template, such that llama.cpp encodes as `prompts` does:
///   the vocabulary    of prompts.tokenizer(), filled up to `vocab_size` with unused tokens; where it came from
///   `carried`
///                     (a GGUF file of as many tokens; null: none), that file's keys as they are;
///   add_bos_token     true if the template begins with a bos token, which is then bos_token_id; llama.cpp does not put
///                     a second one in front of a template's own;
///   eos_token_id      the template's end of turn, so that a chat ends where training ended it;
///   chat_template     the template as Jinja text.
/// @throws Error{Input} for a vocabulary that llama.cpp's tokenizers cannot do.
void add_gguf_tokenizer(formats::GgufWriter& writer, const PromptBuilder& prompts, int64_t vocab_size,
                        const formats::GgufFile* carried);

}  // namespace slmi::text
