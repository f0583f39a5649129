// The one way from messages to token ids: training, evaluation, prediction, calibration and export all use it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/text/chat_template.h"
#include "slmi/text/tokenizer.h"

namespace slmi::text {

/// A prompt as ids, and the answer's if there is one.
struct Encoded {
  std::vector<int32_t> ids;  // prompt, answer, token that ends the answer
  int64_t target_begin = 0;  // first target: the answer's first token; == ids.size() without an answer
  int64_t prefix_len = 0;    // tokens that lie wholly before the last user message's content; 0 if there is none
  int64_t prompt_len() const { return target_begin; }
};

/// What an artefact must say of how its prompts were made.
struct PromptDescription {
  std::string template_name, template_text, template_hash, template_summary;
  std::string tokenizer_hash;
  std::string system_text;  // empty: none
  std::vector<int64_t> stop_ids;
  std::vector<std::string> stop_names;
  Json to_json() const;
  /// One line for people.
  std::string summary() const;
};

/// Immutable and thread-safe.
///
/// Text between two special tokens is encoded as one string, so that ids equal those of transformers' tokenizer on the
/// whole rendered string; but special-token text inside a message is plain text. ids[0, target_begin) are the ids of
/// the prompt without the answer, always: where the answer's first characters would melt into the generation prompt's
/// last token, the answer is encoded by itself, since that is what generation will see.
class PromptBuilder {
 public:
  /// `system_text`: content of the system turn of conversations that bring none; empty: the template's default.
  /// @throws Error{Input} naming template and token if the tokenizer lacks a special token of the template, or if the
  ///         template's own text holds a special token that it does not list.
  PromptBuilder(Tokenizer::Ptr tokenizer, ChatTemplate chat_template, std::string system_text = {});

  /// `messages` end where the answer is to begin. With an answer: its tokens and the end-of-turn token are the targets.
  /// @throws Error{Input} for an unknown role, a misplaced system turn, or text that is not UTF-8.
  Encoded build(std::span<const Message> messages, std::optional<std::string_view> answer = std::nullopt) const;
  /// A single user turn.
  Encoded build(std::string_view user, std::optional<std::string_view> answer = std::nullopt) const;

  /// The prompt as a person reads it, special tokens by name.
  std::string render(std::span<const Message> messages) const;

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Tokenizer::Ptr& tokenizer_ptr() const { return tokenizer_; }
  const ChatTemplate& chat_template() const { return template_; }
  const std::string& system_text() const { return system_text_; }
  /// Ids that end an answer, the end-of-turn token first.
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }
  bool is_stop(int32_t id) const;
  /// `ids` up to the first stop id, decoded.
  std::string decode_answer(std::span<const int32_t> ids) const;
  PromptDescription describe() const;

 private:
  std::vector<Message> with_system(std::span<const Message> messages) const;
  void check_literals() const;
  void check_bos(std::span<const int32_t> ids) const;
  void encode_text(std::string_view text, std::vector<int32_t>& ids) const;
  void append_answer(std::span<const Piece> prompt, std::string_view answer, Encoded& out) const;
  void encode_piece(const Piece& piece, std::vector<int32_t>& ids) const;
  /// Tokens that lie wholly in `before`, a beginning of the prompt whose pieces begin at `begins` in `ids`.
  int64_t tokens_before(std::span<const Piece> before, std::span<const size_t> begins,
                        std::span<const int32_t> ids) const;

  Tokenizer::Ptr tokenizer_;
  ChatTemplate template_;
  std::string system_text_;
  std::vector<int32_t> stop_ids_;
  std::vector<std::string> guarded_;  // special tokens of the template that the vocabulary calls user-defined
};

}  // namespace slmi::text
