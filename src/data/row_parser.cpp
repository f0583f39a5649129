// The accepted row forms, field by field; see row_reader.h for their description.
#include "row_parser.h"

#include <fmt/format.h>

#include <charconv>
#include <initializer_list>

#include "json_place.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::data {
namespace {

using Path = std::vector<JsonStep>;

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

/// "a string", "an object", ... of what was found.
std::string found(const Json& value) {
  switch (value.type()) {
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "true or false";
    case Json::value_t::null:
      return "null";
    default:
      return "a number";
  }
}

class RowParser {
 public:
  RowParser(std::string_view line, const ReadOptions& options, Row& row, std::vector<RowProblem>& problems)
      : line_(line), options_(options), row_(row), problems_(problems) {}

  void run() {
    if (!parse_json_line()) return;
    parse_annotations();
    const bool own_text_field = options_.text_field != ReadOptions().text_field;
    if (own_text_field && has(options_.text_field)) {
      parse_intent_row();
    } else if (has("messages")) {
      parse_chat();
    } else if (has(options_.text_field)) {
      parse_intent_row();
    } else if (has("prompt")) {
      parse_prompt_completion();
    } else {
      problem({}, "neither '{}' nor 'messages' nor 'prompt'; name the request's key with --text-field",
              options_.text_field);
    }
  }

 private:
  template <class... Args>
  void problem(const Path& path, fmt::format_string<Args...> format, Args&&... args) {
    problems_.push_back({find_value(line_, path) + 1, fmt::format(format, std::forward<Args>(args)...)});
  }

  bool parse_json_line() {
    if (const auto nul = line_.find('\0'); nul != std::string_view::npos) {
      problems_.push_back({nul + 1, "a NUL byte; not a text file, or damaged"});
      return false;
    }
    try {
      json_ = parse_json(line_, "");
    } catch (const Error& e) {
      note_syntax_error(e.what());
      return false;
    }
    if (!json_.is_object()) problem({}, "{} where a row, an object, should be", found(json_));
    return json_.is_object();
  }

  /// parse_json says ":1:COLUMN: what" or ": what" of a line that has no name.
  void note_syntax_error(std::string_view message) {
    constexpr std::string_view kPlace = ":1:";
    uint64_t column = 0;
    if (message.starts_with(kPlace)) {
      const char* end = message.data() + message.size();
      const auto [rest, code] = std::from_chars(message.data() + kPlace.size(), end, column);
      if (code == std::errc()) message.remove_prefix(static_cast<size_t>(rest - message.data()));
    }
    if (column == 0) column = find_repeated_key(line_) + 1;
    if (message.starts_with(": ")) message.remove_prefix(2);
    problems_.push_back({column, std::string(message)});
  }

  /// The value of a key; nullptr if it is absent or null.
  const Json* get(const std::string& key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  bool has(const std::string& key) const { return get(key) != nullptr; }

  /// A string that is more than white space; "" after noting a problem.
  std::string text_at(const Json& value, const Path& path, std::string_view name) {
    if (!value.is_string()) {
      problem(path, "{} is {}, not a string", name, found(value));
      return {};
    }
    const auto& text = value.get_ref<const std::string&>();
    if (is_blank(text)) problem(path, "{} is empty", name);
    return text;
  }
  std::string text_of(const std::string& key) {
    const Json* value = get(key);
    return value == nullptr ? std::string() : text_at(*value, {key}, "'" + key + "'");
  }

  /// A string that may be empty: columns of a table that a row does not fill.
  std::string label_of(const std::string& key) {
    const Json* value = get(key);
    return value != nullptr && value->is_string() && value->get_ref<const std::string&>().empty() ? "" : text_of(key);
  }

  void parse_annotations() {
    parse_id();
    row_.intent = text_of("intent");
    row_.lang = label_of("lang");
    row_.domain = label_of("domain");
    row_.slice = label_of("slice");
    if (const Json* oos = get("oos")) {
      if (oos->is_boolean())
        row_.oos = oos->get<bool>();
      else
        problem({"oos"}, "'oos' is {}, not true or false", found(*oos));
    }
    parse_slots();
    parse_actions();
    parse_catalog();
  }

  void parse_id() {
    const Json* id = get("id");
    if (id == nullptr) return;
    if (id->is_number_integer())
      row_.id = id->dump();
    else if (id->is_string())
      row_.id = text_of("id");
    else
      problem({"id"}, "'id' is {}, not a string or an integer", found(*id));
  }

  void parse_slots() {
    const Json* slots = get("slots");
    if (slots == nullptr) return;
    if (!slots->is_object()) return problem({"slots"}, "'slots' is {}, not an object", found(*slots));
    for (const auto& [name, value] : slots->items()) {
      if (value.is_string()) continue;
      if (!value.is_array()) {
        problem({"slots", name}, "slot '{}' is {}, not a string or an array of strings", name, found(value));
        continue;
      }
      for (uint64_t i = 0; i < value.size(); ++i) {
        if (!value[i].is_string())
          problem({"slots", name, i}, "slot '{}' holds {}, not a string", name, found(value[i]));
      }
    }
    row_.has_slots = true;
    row_.slots = *slots;
  }

  void parse_actions() {
    const Json* actions = get("actions");
    if (actions == nullptr) return;
    if (!actions->is_array()) return problem({"actions"}, "'actions' is {}, not an array", found(*actions));
    for (uint64_t i = 0; i < actions->size(); ++i) {
      if (!(*actions)[i].is_object())
        problem({"actions", i}, "'actions' holds {}, not an object", found((*actions)[i]));
    }
    row_.actions = *actions;
  }

  void parse_catalog() {
    const Json* catalog = get("catalog");
    if (catalog == nullptr) return;
    if (!catalog->is_array()) return problem({"catalog"}, "'catalog' is {}, not an array of names", found(*catalog));
    for (uint64_t i = 0; i < catalog->size(); ++i) {
      row_.catalog.push_back(text_at((*catalog)[i], {"catalog", i}, "a name in 'catalog'"));
    }
  }

  void set_answer(std::string answer) {
    row_.has_answer = true;
    row_.answer = std::move(answer);
  }
  void require_target(const Path& path, const std::string& wanted) {
    if (options_.targets == Targets::Required && !row_.has_answer) problem(path, "no target: {}", wanted);
  }

  void add_system_turn(const std::string& content) {
    if (!content.empty()) row_.messages.push_back({"system", content});
  }

  void parse_intent_row() {
    row_.text = text_of(options_.text_field);
    add_system_turn(instruction_for(row_.catalog, options_.system_text));
    row_.messages.push_back({"user", row_.text});
    const std::string& field = options_.answer_field;
    if (const Json* answer = get(field)) {
      if (answer->is_object() || answer->is_array())
        set_answer(dump_spaced(*answer));
      else
        set_answer(text_of(field));
    } else if (has("intent")) {
      set_answer(intent_answer(row_.intent, row_.has_slots, row_.slots));
    }
    require_target({}, fmt::format("neither '{}' nor 'intent'", field));
  }

  void parse_prompt_completion() {
    row_.text = text_of("prompt");
    add_system_turn(options_.system_text);
    row_.messages.push_back({"user", row_.text});
    if (has("completion")) set_answer(text_of("completion"));
    require_target({}, "no 'completion'");
  }

  void parse_chat() {
    const Json& messages = *get("messages");
    if (!messages.is_array() || messages.empty()) {
      return problem({"messages"}, "'messages' is {}, not an array of messages",
                     messages.is_array() ? "empty" : found(messages));
    }
    for (uint64_t i = 0; i < messages.size(); ++i) parse_message(messages[i], i);
    if (row_.messages.size() != messages.size()) return;  // the problem is noted
    if (row_.messages.back().role == "assistant") {
      set_answer(row_.messages.back().content);
      row_.messages.pop_back();
    }
    const uint64_t last = messages.size() - 1;
    require_target({"messages", last}, "the last message is not the assistant's");
    if (row_.messages.empty() || row_.messages.back().role != "user") {
      return problem({"messages", last}, "no message of the user before the answer");
    }
    row_.text = row_.messages.back().content;
    if (row_.messages.front().role != "system" && !options_.system_text.empty()) {
      row_.messages.insert(row_.messages.begin(), {"system", options_.system_text});
    }
  }

  void parse_message(const Json& message, uint64_t index) {
    if (!message.is_object()) return problem({"messages", index}, "a message is {}, not an object", found(message));
    const auto role = message.find("role"), content = message.find("content");
    if (role == message.end() || content == message.end()) {
      return problem({"messages", index}, "a message without '{}'", role == message.end() ? "role" : "content");
    }
    const std::string name = text_at(*role, {"messages", index, "role"}, "'role'");
    const std::string said = text_at(*content, {"messages", index, "content"}, "'content'");
    if (role->is_string() && name != "system" && name != "user" && name != "assistant") {
      return problem({"messages", index, "role"}, "role '{}'; expected system, user or assistant", name);
    }
    if (name == "system" && index > 0) {
      return problem({"messages", index, "role"}, "a system message after the first message");
    }
    if (role->is_string() && content->is_string()) row_.messages.push_back({name, said});
  }

  std::string_view line_;
  const ReadOptions& options_;
  Row& row_;
  std::vector<RowProblem>& problems_;
  Json json_;
};

}  // namespace

void parse_row(std::string_view line, const ReadOptions& options, Row& row, std::vector<RowProblem>& problems) {
  RowParser(line, options, row, problems).run();
}

}  // namespace slmi::data
