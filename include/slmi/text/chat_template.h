// How messages become one string: built-in templates, or the user's, and the same as Jinja text for other programs.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/text/tokenizer.h"

namespace slmi::text {

/// One turn. `role` is "system", "user" or "assistant".
struct Message {
  std::string role;
  std::string content;
};

/// A stretch of a rendered prompt: a special token by its name, or text in which nothing is special.
struct Piece {
  enum class Kind { Special, Text };
  Kind kind = Kind::Text;
  std::string text;
};

/// A template is data, not a program: bos, then each turn as prefix + content + suffix, then the generation prompt.
///
/// Built-in (name; default system turn; content trimmed as Python's strip()):
///   llama3  "<|begin_of_text|>", turns "<|start_header_id|>ROLE<|end_header_id|>\n\nCONTENT<|eot_id|>"; trimmed. No
///           system turn unless one is given, and never a date line: the text of Meta's base chat format (llama-models
///           chat_format.py), which depends on no calendar. The published 3.1 and 3.2 templates add date lines to every
///           system turn; to train with them, put them into the system text.
///   chatml  turns "<|im_start|>ROLE\nCONTENT<|im_end|>\n"; no bos; not trimmed; no default system turn (SmolLM2's own
///           template puts one).
///   plain   for base models: "CONTENT\n\n" of a system turn, "CONTENT\n" of a user's, the answer, then the tokenizer's
///           eos; its bos in front where the tokenizer's file asks for one; not trimmed.
///
/// A user's template is a JSON file (comments allowed):
///   {"bos": "<s>",                        special token in front; absent: none
///    "turn_prefix": "<|{role}|>\n",       or an object {"system": ..., "user": ..., "assistant": ...}
///    "turn_suffix": "<|end|>\n",          or such an object
///    "generation_prompt": "<|assistant|>\n",   absent: the assistant's turn_prefix
///    "stop": ["<|end|>"],                 tokens that end an answer; one of them must stand in the assistant's suffix
///    "special_tokens": ["<|user|>"],      further special tokens in the strings above (bos and stop are known)
///    "default_system": "text",            system turn when none is given ("" gives an empty one); absent: none
///    "trim": true}                        strip white space around contents; absent: false
class ChatTemplate {
 public:
  /// A built-in name, or the path of a JSON file. `plain` takes bos and eos from the tokenizer.
  /// @throws Error{Input} for a file that does not fit the form above; Error{Usage} for a name that is neither.
  static ChatTemplate load(const std::string& name_or_path, const Tokenizer& tokenizer);
  /// From text(), or a user's JSON; `source` names it in errors.
  static ChatTemplate from_json(std::string_view json, const std::string& source, const std::string& name);
  /// The built-in template that the tokenizer's special tokens call for: llama3, chatml, else plain.
  static std::string name_for(const Tokenizer& tokenizer);

  const std::string& name() const { return name_; }
  /// Canonical JSON in the form above; from_json() of it gives an equal template. Stored with every artefact.
  const std::string& text() const { return text_; }
  /// SHA-256 of text(): equal hashes render equally, whatever the names.
  const std::string& hash() const { return hash_; }
  /// Jinja text for tokenizer_config.json and GGUF: renders the same under transformers' apply_chat_template.
  std::string jinja() const;
  /// Go template text for Ollama's Modelfile, without the bos token, which Ollama adds where the file asks for it.
  std::string go_template() const;
  /// One line for people: name, default system turn, trimming, stop tokens.
  std::string summary() const;

  /// All turns, and the generation prompt; neighbouring texts are joined. The answer's place is behind it.
  /// @throws Error{Input} for an unknown role or a system turn that is not the first.
  std::vector<Piece> render_prompt(std::span<const Message> messages) const;
  /// The same up to where the content of message `index` begins.
  std::vector<Piece> render_before(std::span<const Message> messages, size_t index) const;
  /// What follows an answer, up to and with the token that ends it: the targets beside the answer itself.
  std::vector<Piece> answer_end() const;
  /// Appends text in which nothing is special, to the last piece if that is text.
  static void append_text(std::vector<Piece>& pieces, std::string_view text);
  /// `content` as the template puts it in: trimmed if it trims.
  std::string_view prepare(std::string_view content) const;

  const std::string& bos() const { return bos_; }
  const std::vector<std::string>& stop() const { return stop_; }
  bool trims() const { return trim_; }
  const std::optional<std::string>& default_system() const { return default_system_; }
  /// Every special token that the template may put.
  const std::vector<std::string>& special_tokens() const { return special_tokens_; }

 private:
  struct Turn {
    std::string prefix, suffix;
  };
  ChatTemplate() = default;
  const Turn& turn(const std::string& role) const;
  /// Collects special_tokens_, makes text_ and hash_.
  void finish();
  /// Appends the template's own text, its special tokens as such.
  void append_literal(std::vector<Piece>& pieces, std::string_view literal) const;
  std::vector<Piece> render_turns(std::span<const Message> messages, size_t count) const;

  std::string name_, bos_, generation_prompt_, text_, hash_;
  Turn system_, user_, assistant_;
  std::vector<std::string> stop_, special_tokens_;
  std::optional<std::string> default_system_;
  bool trim_ = false;
};

}  // namespace slmi::text
