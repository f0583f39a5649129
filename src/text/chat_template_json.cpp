// Templates as JSON: reading with every problem named, and the canonical text that is stored and hashed.
#include <algorithm>
#include <array>

#include "slmi/base/error.h"
#include "slmi/base/sha256.h"
#include "slmi/base/suggest.h"
#include "slmi/text/chat_template.h"

namespace slmi::text {
namespace {

constexpr std::array<const char*, 8> kKeys = {"bos",  "turn_prefix",    "turn_suffix",    "generation_prompt",
                                              "stop", "special_tokens", "default_system", "trim"};
constexpr std::string_view kRolePlaceholder = "{role}";

class TemplateReader {
 public:
  TemplateReader(const Json& json, const std::string& source) : json_(json), source_(source) {
    require(json.is_object(), ErrorKind::Input, "{}: a template is a JSON object", source);
    const std::vector<std::string> known(kKeys.begin(), kKeys.end());
    for (const auto& [key, value] : json.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      const std::string near = nearest_name(key, known);
      fail(ErrorKind::Input, "{}: key '{}' is not known{}", source, key,
           near.empty() ? "" : "; did you mean '" + near + "'?");
    }
  }

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  std::string text(const char* key) const {
    if (!has(key)) return {};
    require(json_[key].is_string(), ErrorKind::Input, "{}: '{}' must be a string", source_, key);
    return json_[key].get<std::string>();
  }

  bool flag(const char* key) const {
    if (!has(key)) return false;
    require(json_[key].is_boolean(), ErrorKind::Input, "{}: '{}' must be true or false", source_, key);
    return json_[key].get<bool>();
  }

  std::vector<std::string> names(const char* key) const {
    std::vector<std::string> out;
    if (!has(key)) return out;
    require(json_[key].is_array(), ErrorKind::Input, "{}: '{}' must be an array of token names", source_, key);
    for (const Json& item : json_[key]) {
      require(item.is_string() && !item.get_ref<const std::string&>().empty(), ErrorKind::Input,
              "{}: '{}' must be an array of token names, not empty ones", source_, key);
      out.push_back(item.get<std::string>());
    }
    return out;
  }

  /// `key` is one string for all roles, "{role}" in it replaced, or an object role -> string.
  std::string of_role(const char* key, const std::string& role) const {
    require(has(key), ErrorKind::Input, "{}: '{}' is missing", source_, key);
    const Json& value = json_[key];
    if (value.is_string()) {
      std::string out = value.get<std::string>();
      for (size_t at = 0; (at = out.find(kRolePlaceholder, at)) != std::string::npos; at += role.size()) {
        out.replace(at, kRolePlaceholder.size(), role);
      }
      return out;
    }
    require(value.is_object() && value.size() == 3 && value.contains(role) && value[role].is_string(), ErrorKind::Input,
            "{}: '{}' must be a string, or an object with a string for each of system, user and assistant", source_,
            key);
    return value[role].get<std::string>();
  }

 private:
  const Json& json_;
  const std::string& source_;
};

}  // namespace

ChatTemplate ChatTemplate::from_json(std::string_view json, const std::string& source, const std::string& name) {
  const Json tree = parse_json(json, source, {.comments = JsonComments::Accept});
  const TemplateReader reader(tree, source);
  ChatTemplate out;
  out.name_ = name;
  out.bos_ = reader.text("bos");
  for (auto [role, turn] : {std::pair{"system", &out.system_}, {"user", &out.user_}, {"assistant", &out.assistant_}}) {
    *turn = {reader.of_role("turn_prefix", role), reader.of_role("turn_suffix", role)};
  }
  out.generation_prompt_ = reader.has("generation_prompt") ? reader.text("generation_prompt") : out.assistant_.prefix;
  out.stop_ = reader.names("stop");
  out.special_tokens_ = reader.names("special_tokens");
  if (reader.has("default_system")) out.default_system_ = reader.text("default_system");
  out.trim_ = reader.flag("trim");
  require(!out.stop_.empty(), ErrorKind::Input, "{}: 'stop' names no token, so no answer would ever end", source);
  out.finish();
  std::vector<Piece> end;
  out.append_literal(end, out.assistant_.suffix);
  const bool ends = std::any_of(end.begin(), end.end(), [&](const Piece& piece) {
    return piece.kind == Piece::Kind::Special &&
           std::find(out.stop_.begin(), out.stop_.end(), piece.text) != out.stop_.end();
  });
  require(ends, ErrorKind::Input,
          "{}: the assistant's turn_suffix \"{}\" holds none of the stop tokens, so a model would never learn to stop",
          source, out.assistant_.suffix);
  return out;
}

void ChatTemplate::finish() {
  special_tokens_.insert(special_tokens_.end(), stop_.begin(), stop_.end());
  if (!bos_.empty()) special_tokens_.push_back(bos_);
  // The longest first, so that a name inside another is not found in its place.
  std::sort(special_tokens_.begin(), special_tokens_.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  special_tokens_.erase(std::unique(special_tokens_.begin(), special_tokens_.end()), special_tokens_.end());

  const auto by_role = [](const std::string& system, const std::string& user, const std::string& assistant) {
    return Json{{"system", system}, {"user", user}, {"assistant", assistant}};
  };
  Json json = Json::object();
  json["bos"] = bos_;
  json["turn_prefix"] = by_role(system_.prefix, user_.prefix, assistant_.prefix);
  json["turn_suffix"] = by_role(system_.suffix, user_.suffix, assistant_.suffix);
  json["generation_prompt"] = generation_prompt_;
  json["stop"] = stop_;
  json["special_tokens"] = special_tokens_;
  json["default_system"] = default_system_ ? Json(*default_system_) : Json(nullptr);
  json["trim"] = trim_;
  text_ = dump_spaced(json);
  hash_ = sha256_hex(text_);
}

}  // namespace slmi::text
