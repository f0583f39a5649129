// A tokenizer as the files that other programs load beside a model: tokenizer.json, tokenizer_config.json.
#pragma once

#include <filesystem>

#include "slmi/formats/gguf.h"
#include "slmi/text/chat_template.h"
#include "slmi/text/tokenizer.h"

namespace slmi::text {

/// Writes the vocabulary of a GGUF file ("gpt2" kind) as tokenizer.json and tokenizer_config.json, such that
/// tokenizers, transformers' AutoTokenizer and Tokenizer::load give the ids and the hash of Tokenizer::from_gguf; a
/// "llama" vocabulary as tokenizer.model (SentencePiece). The template goes in as Jinja text. Files of another
/// tokenizer that the directory holds are removed. @throws Error{Input} for a vocabulary that Tokenizer::from_gguf
/// refuses, Error{Output}.
void write_tokenizer_files(const std::filesystem::path& directory, const formats::GgufFile& vocabulary,
                           const ChatTemplate& chat_template);

/// Copies the vocabulary at `from` (a directory, or one vocabulary file; of a GGUF file the above is written) with what
/// lies beside it, and puts this template in place of the one there. @throws Error{Input}, Error{Output}.
void copy_tokenizer_files(const std::filesystem::path& directory, const std::filesystem::path& from,
                          const ChatTemplate& chat_template);

/// Removes every file that the two above may write or copy. @throws Error{Output}.
void remove_tokenizer_files(const std::filesystem::path& directory);

}  // namespace slmi::text
