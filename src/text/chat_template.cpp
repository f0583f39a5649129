// Built-in templates, and rendering.
#include "slmi/text/chat_template.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/suggest.h"

namespace slmi::text {
namespace {

constexpr std::string_view kLlama3 = R"({
  "bos": "<|begin_of_text|>",
  "turn_prefix": "<|start_header_id|>{role}<|end_header_id|>\n\n",
  "turn_suffix": "<|eot_id|>",
  "stop": ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"],
  "special_tokens": ["<|start_header_id|>", "<|end_header_id|>"],
  "trim": true
})";

constexpr std::string_view kChatml = R"({
  "turn_prefix": "<|im_start|>{role}\n",
  "turn_suffix": "<|im_end|>\n",
  "stop": ["<|im_end|>", "<|endoftext|>"],
  "special_tokens": ["<|im_start|>"]
})";

/// Stop tokens but the first are kept only where the tokenizer has them: vocabularies of one family differ in these.
Json drop_unknown_stops(Json json, const Tokenizer& tokenizer) {
  Json kept = Json::array();
  for (const Json& name : json["stop"]) {
    if (kept.empty() || tokenizer.special(name.get<std::string>())) kept.push_back(name);
  }
  json["stop"] = kept;
  return json;
}

Json plain_template(const Tokenizer& tokenizer) {
  const auto name_of = [&](int32_t id) { return std::string(tokenizer.token_bytes(id)); };
  require(tokenizer.eos_id() && tokenizer.is_special(*tokenizer.eos_id()), ErrorKind::Input,
          "{}: the tokenizer names no end token, and the template 'plain' ends answers with it; give a template file",
          tokenizer.source());
  Json json = Json::object();
  if (tokenizer.wants_bos() && tokenizer.bos_id()) json["bos"] = name_of(*tokenizer.bos_id());
  const std::string eos = name_of(*tokenizer.eos_id());
  json["turn_prefix"] = "";
  json["turn_suffix"] = {{"system", "\n\n"}, {"user", "\n"}, {"assistant", eos}};
  json["stop"] = {eos};
  return json;
}

/// White space of Python's str.strip(), which Jinja's `trim` is: White_Space and U+001C..U+001F.
size_t space_length(std::string_view s) {
  const auto c = static_cast<uint8_t>(s[0]);
  if ((c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20)) return 1;
  for (const std::string_view space : {"\xC2\x85", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\xA8", "\xE2\x80\xA9",
                                       "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"}) {
    if (s.starts_with(space)) return space.size();
  }
  const bool quad = s.starts_with("\xE2\x80") && s.size() > 2;  // U+2000..U+200A
  return quad && static_cast<uint8_t>(s[2]) >= 0x80 && static_cast<uint8_t>(s[2]) <= 0x8A ? 3 : 0;
}

std::string_view strip(std::string_view s) {
  while (!s.empty()) {
    const size_t n = space_length(s);
    if (n == 0) break;
    s.remove_prefix(n);
  }
  const auto drop_last = [&](size_t n) {
    if (s.size() < n || space_length(s.substr(s.size() - n)) != n) return false;
    s.remove_suffix(n);
    return true;
  };
  while (drop_last(1) || drop_last(2) || drop_last(3)) {
  }
  return s;
}

constexpr std::array<const char*, 3> kBuiltIns = {"llama3", "chatml", "plain"};

}  // namespace

ChatTemplate ChatTemplate::load(const std::string& name_or_path, const Tokenizer& tokenizer) {
  const auto built_in = [&](const Json& json) {
    return from_json(drop_unknown_stops(json, tokenizer).dump(), "template '" + name_or_path + "'", name_or_path);
  };
  if (name_or_path == "llama3") return built_in(Json::parse(kLlama3));
  if (name_or_path == "chatml") return built_in(Json::parse(kChatml));
  if (name_or_path == "plain") return built_in(plain_template(tokenizer));
  std::error_code ignored;
  if (std::filesystem::exists(name_or_path, ignored)) {
    const std::string name = std::filesystem::path(name_or_path).filename().string();
    return from_json(MappedFile::open(name_or_path).text(), name_or_path, name);
  }
  const std::vector<std::string> known(kBuiltIns.begin(), kBuiltIns.end());
  const std::string near = nearest_name(name_or_path, known);
  fail(ErrorKind::Usage, "template '{}' is neither built in (llama3, chatml, plain) nor a file{}", name_or_path,
       near.empty() ? "" : "; did you mean " + near + "?");
}

std::string ChatTemplate::name_for(const Tokenizer& tokenizer) {
  if (tokenizer.special("<|start_header_id|>") && tokenizer.special("<|eot_id|>")) return "llama3";
  if (tokenizer.special("<|im_start|>") && tokenizer.special("<|im_end|>")) return "chatml";
  return "plain";
}

std::string ChatTemplate::summary() const {
  std::string out = fmt::format("template {}: ", name_);
  out += default_system_ ? fmt::format("default system turn \"{}\"", *default_system_) : "no default system turn";
  out += trim_ ? ", contents trimmed" : ", contents as they are";
  return out + fmt::format(", stops at {}", fmt::join(stop_, " "));
}

std::string_view ChatTemplate::prepare(std::string_view content) const {
  return trim_ ? strip(content) : content;
}

const ChatTemplate::Turn& ChatTemplate::turn(const std::string& role) const {
  if (role == "system") return system_;
  if (role == "user") return user_;
  if (role == "assistant") return assistant_;
  fail(ErrorKind::Input, "role '{}' is not known; expected system, user or assistant", role);
}

void ChatTemplate::append_text(std::vector<Piece>& pieces, std::string_view text) {
  if (text.empty()) return;
  if (pieces.empty() || pieces.back().kind == Piece::Kind::Special) pieces.push_back({Piece::Kind::Text, {}});
  pieces.back().text += text;
}

void ChatTemplate::append_literal(std::vector<Piece>& pieces, std::string_view literal) const {
  size_t begin = 0, at = 0;
  while (at < literal.size()) {
    const auto found = std::find_if(special_tokens_.begin(), special_tokens_.end(),
                                    [&](const std::string& name) { return literal.substr(at).starts_with(name); });
    if (found == special_tokens_.end()) {
      ++at;
      continue;
    }
    append_text(pieces, literal.substr(begin, at - begin));
    pieces.push_back({Piece::Kind::Special, *found});
    at += found->size();
    begin = at;
  }
  append_text(pieces, literal.substr(begin));
}

std::vector<Piece> ChatTemplate::render_turns(std::span<const Message> messages, size_t count) const {
  std::vector<Piece> pieces;
  append_literal(pieces, bos_);
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (default_system_ && !has_system) {
    append_literal(pieces, system_.prefix);
    append_text(pieces, prepare(*default_system_));
    append_literal(pieces, system_.suffix);
  }
  for (size_t i = 0; i < count; ++i) {
    const Message& message = messages[i];
    const Turn& form = turn(message.role);
    require(i == 0 || message.role != "system", ErrorKind::Input,
            "message {} is a system turn; only the first message may be one", i);
    append_literal(pieces, form.prefix);
    append_text(pieces, prepare(message.content));
    append_literal(pieces, form.suffix);
  }
  return pieces;
}

std::vector<Piece> ChatTemplate::render_prompt(std::span<const Message> messages) const {
  std::vector<Piece> pieces = render_turns(messages, messages.size());
  append_literal(pieces, generation_prompt_);
  return pieces;
}

std::vector<Piece> ChatTemplate::render_before(std::span<const Message> messages, size_t index) const {
  std::vector<Piece> pieces = render_turns(messages, index);
  append_literal(pieces, turn(messages[index].role).prefix);
  return pieces;
}

std::vector<Piece> ChatTemplate::answer_end() const {
  std::vector<Piece> pieces;
  append_literal(pieces, assistant_.suffix);
  const auto end = std::find_if(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    return piece.kind == Piece::Kind::Special && std::find(stop_.begin(), stop_.end(), piece.text) != stop_.end();
  });
  pieces.resize(static_cast<size_t>(end - pieces.begin()) + 1);  // from_json() checked that there is one
  return pieces;
}

}  // namespace slmi::text
