// The printable alphabet in which GPT-2, tokenizer.json and GGUF write byte-level tokens: each byte one character.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slmi::text {

/// Appends the bytes that `text` (UTF-8 in the alphabet of gpt-2 encoder.py, bytes_to_unicode) stands for. False if a
/// character is not in the alphabet; `out` is then as it was.
bool append_alphabet_bytes(std::string_view text, std::string& out);
/// The inverse: `bytes` in that alphabet.
std::string alphabet_text(std::string_view bytes);

}  // namespace slmi::text
