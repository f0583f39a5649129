// Messages to ids; see the header.
#include "slmi/text/prompt_builder.h"

#include <algorithm>

#include "slmi/base/error.h"
#include "slmi/base/sha256.h"

namespace slmi::text {
namespace {

bool starts_with(std::span<const int32_t> ids, std::span<const int32_t> beginning) {
  return ids.size() >= beginning.size() && std::equal(beginning.begin(), beginning.end(), ids.begin());
}

}  // namespace

PromptBuilder::PromptBuilder(Tokenizer::Ptr tokenizer, ChatTemplate chat_template, std::string system_text)
    : tokenizer_(std::move(tokenizer)), template_(std::move(chat_template)), system_text_(std::move(system_text)) {
  for (const auto& name : template_.special_tokens()) {
    require(
        tokenizer_->special(name).has_value(), ErrorKind::Input,
        "template '{}' needs the special token {}, which the tokenizer of {} does not have; choose another template",
        template_.name(), name, tokenizer_->source());
  }
  for (const auto& name : template_.stop()) stop_ids_.push_back(*tokenizer_->special(name));
  // The token that ends an answer goes first: it is the one that training teaches.
  const int32_t end = *tokenizer_->special(template_.answer_end().back().text);
  std::stable_partition(stop_ids_.begin(), stop_ids_.end(), [&](int32_t id) { return id == end; });
  check_literals();
  for (const auto& name : template_.special_tokens()) {
    if (tokenizer_->is_user_defined(*tokenizer_->special(name))) guarded_.push_back(name);
  }
}

void PromptBuilder::check_literals() const {
  const auto names = tokenizer_->special_names();
  const Message empty[] = {{"system", ""}, {"user", ""}, {"assistant", ""}};
  for (const Piece& piece : template_.render_prompt(empty)) {
    if (piece.kind == Piece::Kind::Special) continue;
    for (const auto& name : names) {
      require(name.empty() || piece.text.find(name) == std::string::npos, ErrorKind::Input,
              "template '{}': its text holds {}, a special token of {}; list it in 'special_tokens'", template_.name(),
              name, tokenizer_->source());
    }
  }
}

std::vector<Message> PromptBuilder::with_system(std::span<const Message> messages) const {
  std::vector<Message> out;
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (!has_system && !system_text_.empty()) out.push_back({"system", system_text_});
  out.insert(out.end(), messages.begin(), messages.end());
  return out;
}

void PromptBuilder::encode_text(std::string_view text, std::vector<int32_t>& ids) const {
  // A template's token that the vocabulary calls user-defined would be found in user text: break its name in two there.
  size_t cut = std::string_view::npos;
  for (const auto& name : guarded_) cut = std::min(cut, text.find(name));
  if (cut == std::string_view::npos) return tokenizer_->encode(text, ids);
  size_t first = 1;
  while ((static_cast<uint8_t>(text[cut + first]) & 0xC0u) == 0x80u) ++first;
  tokenizer_->encode(text.substr(0, cut + first), ids);
  encode_text(text.substr(cut + first), ids);
}

void PromptBuilder::encode_piece(const Piece& piece, std::vector<int32_t>& ids) const {
  if (piece.kind == Piece::Kind::Special) {
    ids.push_back(*tokenizer_->special(piece.text));
  } else {
    encode_text(piece.text, ids);
  }
}

int64_t PromptBuilder::tokens_before(std::span<const Piece> before, std::span<const size_t> begins,
                                     std::span<const int32_t> ids) const {
  // `before` is the rendered prompt cut short: its pieces are the prompt's, but the last may be the beginning of one.
  if (before.empty()) return 0;
  const size_t last = before.size() - 1;
  std::vector<int32_t> alone;
  encode_piece(before[last], alone);
  const auto rest = ids.subspan(begins[last]);
  const size_t limit = std::min(alone.size(), rest.size());
  const auto same = std::mismatch(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(limit), rest.begin());
  return static_cast<int64_t>(begins[last]) + (same.first - alone.begin());
}

Encoded PromptBuilder::build(std::span<const Message> messages, std::optional<std::string_view> answer) const {
  const std::vector<Message> all = with_system(messages);
  const std::vector<Piece> pieces = template_.render_prompt(all);
  Encoded out;
  std::vector<size_t> begins;  // of each piece in ids
  for (const Piece& piece : pieces) {
    begins.push_back(out.ids.size());
    encode_piece(piece, out.ids);
  }
  out.target_begin = static_cast<int64_t>(out.ids.size());
  check_bos(out.ids);
  for (size_t i = all.size(); i-- > 0;) {
    if (all[i].role != "user") continue;
    out.prefix_len = tokens_before(template_.render_before(all, i), begins, out.ids);
    break;
  }
  if (answer) append_answer(pieces, *answer, out);
  return out;
}

Encoded PromptBuilder::build(std::string_view user, std::optional<std::string_view> answer) const {
  const Message message[] = {{"user", std::string(user)}};
  return build(message, answer);
}

void PromptBuilder::append_answer(std::span<const Piece> prompt, std::string_view answer, Encoded& out) const {
  std::vector<Piece> targets;
  ChatTemplate::append_text(targets, template_.prepare(answer));
  for (const Piece& piece : template_.answer_end()) {
    if (piece.kind == Piece::Kind::Special) {
      targets.push_back(piece);
    } else {
      ChatTemplate::append_text(targets, piece.text);
    }
  }
  const bool joined = !prompt.empty() && prompt.back().kind == Piece::Kind::Text && !targets.empty() &&
                      targets.front().kind == Piece::Kind::Text;
  size_t done = 0;
  if (joined) {
    std::vector<int32_t> alone, together;
    encode_text(prompt.back().text, alone);
    encode_text(prompt.back().text + targets.front().text, together);
    if (starts_with(together, alone)) {
      out.ids.insert(out.ids.end(), together.begin() + static_cast<std::ptrdiff_t>(alone.size()), together.end());
      done = 1;
    }
  }
  for (; done < targets.size(); ++done) encode_piece(targets[done], out.ids);
}

void PromptBuilder::check_bos(std::span<const int32_t> ids) const {
  if (template_.bos().empty()) return;
  const int32_t bos = *tokenizer_->special(template_.bos());
  const bool once = !ids.empty() && ids[0] == bos && (ids.size() < 2 || ids[1] != bos);
  require(once, ErrorKind::Internal, "template '{}': a prompt must begin with {} exactly once", template_.name(),
          template_.bos());
}

std::string PromptBuilder::render(std::span<const Message> messages) const {
  std::string out;
  for (const Piece& piece : template_.render_prompt(with_system(messages))) out += piece.text;
  return out;
}

bool PromptBuilder::is_stop(int32_t id) const {
  return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
}

std::string PromptBuilder::decode_answer(std::span<const int32_t> ids) const {
  const auto end = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return is_stop(id); });
  return tokenizer_->decode(ids.first(static_cast<size_t>(end - ids.begin())));
}

PromptDescription PromptBuilder::describe() const {
  PromptDescription out;
  out.template_name = template_.name();
  out.template_text = template_.text();
  out.template_hash = template_.hash();
  out.template_summary = template_.summary();
  out.tokenizer_hash = tokenizer_->hash();
  out.system_text = system_text_;
  out.stop_ids.assign(stop_ids_.begin(), stop_ids_.end());
  for (const int32_t id : stop_ids_) out.stop_names.emplace_back(tokenizer_->token_bytes(id));
  return out;
}

Json PromptDescription::to_json() const {
  Json json = Json::object();
  json["template"] = template_name;
  json["template_text"] = template_text;
  json["template_hash"] = template_hash;
  json["tokenizer_hash"] = tokenizer_hash;
  json["system"] = system_text;
  json["stop_ids"] = stop_ids;
  json["stop"] = stop_names;
  return json;
}

std::string PromptDescription::summary() const {
  std::string out = fmt::format("{} (ids {}); template {}, tokenizer {}", template_summary, fmt::join(stop_ids, ", "),
                                template_hash.substr(0, 12), tokenizer_hash.substr(0, 12));
  if (!system_text.empty()) out += fmt::format("; system text {}", sha256_hex(system_text).substr(0, 12));
  return out;
}

}  // namespace slmi::text
