// Configuration files: JSON with comments, read with the line of each key so that every problem has a place.
#include <algorithm>
#include <map>
#include <memory>

#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/suggest.h"
#include "slmi/config/config.h"
#include "text.h"

namespace slmi::config {
namespace {

/// Text iterator that counts what the JSON lexer has consumed; copies share the count.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, size_t* consumed) : at_(at), consumed_(consumed) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*consumed_;
    return *this;
  }
  CountingIterator operator++(int) {
    auto old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  size_t* consumed_;
};

/// Notes the line of each key, as a dotted path; a key ends where the lexer stands when key() is called.
class KeyLines {
 public:
  KeyLines(std::string_view text, const size_t* consumed) : text_(text), consumed_(consumed) {}

  std::map<std::string, uint64_t> lines;
  std::vector<std::string> problems;  // keys that stand twice

  bool key(std::string& name) {
    stack_.back().name = name;
    const auto line = position_of(text_, *consumed_).line;
    const auto [at, fresh] = lines.emplace(path(), line);
    if (!fresh && stack_.back().counts) {
      problems.push_back(fmt::format("{}: {} stands twice, first on line {}", line, path(), at->second));
    }
    return true;
  }
  bool start_object(size_t) { return push(/*counts=*/!inside_array()); }
  bool end_object() { return pop(); }
  bool start_array(size_t) { return push(/*counts=*/false); }
  bool end_array() { return pop(); }
  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool number_integer(int64_t) { return true; }
  bool number_unsigned(uint64_t) { return true; }
  bool number_float(double, const std::string&) { return true; }
  bool string(std::string&) { return true; }
  bool binary(std::vector<uint8_t>&) { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) { return false; }

 private:
  struct Level {
    std::string name;
    bool counts;  // whether keys here are ours to check for duplicates
  };
  static constexpr size_t kMaxDepth = 64;  // what parse_json allows; it reports the excess

  bool inside_array() const { return !stack_.empty() && !stack_.back().counts; }
  bool push(bool counts) {
    stack_.push_back({"", counts});
    return stack_.size() <= kMaxDepth;
  }
  bool pop() {
    stack_.pop_back();
    return true;
  }
  std::string path() const {
    std::string out;
    for (const auto& level : stack_) out += (out.empty() ? "" : ".") + level.name;
    return out;
  }

  std::string_view text_;
  const size_t* consumed_;
  std::vector<Level> stack_;
};

/// One file being read over a config.
class FileReader {
 public:
  FileReader(const Schema& schema, void* config, std::string_view source, const KeyLines& lines,
             std::vector<std::string>& problems, GivenKeys& given)
      : schema_(schema), config_(config), source_(source), lines_(lines), problems_(problems), given_(given) {}

  void read(const Json& object, const std::string& prefix) {
    for (const auto& [name, value] : object.items()) read_key(prefix + name, value);
  }

 private:
  void read_key(const std::string& key, const Json& value) {
    const auto* field = schema_.find_key(key);
    if (field == nullptr) {
      read_group(key, value);
      return;
    }
    const auto expected = field->find_problem(value);
    if (expected.empty()) {
      const Json before = field->load(config_);
      field->store(config_, value);
      Given& given = given_[key];
      given.place = place(key) + key;
      given.matters = given.matters || field->load(config_) != before;
      return;
    }
    const auto near = value.is_string() ? nearest_name(value.get<std::string>(), field->choices) : "";
    problem(key, fmt::format("{} = {}; expected {}{}", key, shortened(value), expected, did_you_mean(near)));
  }

  void read_group(const std::string& key, const Json& value) {
    const bool group = std::any_of(schema_.fields.begin(), schema_.fields.end(),
                                   [&](const Field& f) { return f.key.starts_with(key + "."); });
    if (!group) {
      problem(key, fmt::format("{}: no such key{}", key, did_you_mean(suggest_key(schema_, key))));
    } else if (!value.is_object()) {
      problem(key, fmt::format("{} = {}; expected an object {{...}}", key, shortened(value)));
    } else {
      read(value, key + ".");
    }
  }

  void problem(const std::string& key, const std::string& text) { problems_.push_back(place(key) + text); }

  /// "c.json:3: ".
  std::string place(const std::string& key) const {
    const auto at = lines_.lines.find(key);
    return fmt::format("{}:{}: ", source_, at == lines_.lines.end() ? 1 : at->second);
  }

  static std::string shortened(const Json& value) {
    constexpr size_t kLongest = 80;  // a value is quoted to be recognized, not to be read
    auto text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
    return text;
  }

  const Schema& schema_;
  void* config_;
  std::string_view source_;
  const KeyLines& lines_;
  std::vector<std::string>& problems_;
  GivenKeys& given_;
};

bool is_empty(const Json& value) {
  return value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty()) ||
         (value.is_array() && value.empty());
}

/// Given fields that would be ignored.
void check_switches(const Schema& schema, const void* config, const GivenKeys& given,
                    std::vector<std::string>& problems) {
  const auto is_on = [&](const std::string& key) { return schema.find_key(key)->load(config) == Json(true); };
  std::vector<std::string> chosen;  // of the switches that some field needs
  for (const auto& field : schema.fields) {
    for (const auto& key : field.only_with) {
      if (is_on(key) && std::find(chosen.begin(), chosen.end(), key) == chosen.end()) chosen.push_back(key);
    }
  }
  for (const auto& field : schema.fields) {
    const auto at = given.find(field.key);
    if (at == given.end() || !at->second.matters) continue;
    const auto& place = at->second.place;
    if (!field.only_with.empty() && std::none_of(field.only_with.begin(), field.only_with.end(), is_on)) {
      const auto wanted = flags_text(schema, field.only_with);
      problems.push_back(chosen.empty() ? fmt::format("{} belongs to {}; give that too, or leave it out", place, wanted)
                                        : fmt::format("{} belongs to {}, not to {}; leave it out, or say {} instead",
                                                      place, wanted, flags_text(schema, chosen), wanted));
    }
    for (const auto& key : field.not_with) {
      if (is_on(key))
        problems.push_back(
            fmt::format("{} has no meaning with {}; leave one of the two out", place, flags_text(schema, {key})));
    }
  }
}

}  // namespace

void read_file_text(const Schema& schema, void* config, std::string_view text, const std::string& source,
                    std::vector<std::string>& problems, GivenKeys& given) {
  size_t consumed = 0;
  KeyLines lines(text, &consumed);
  Json::sax_parse(CountingIterator(text.data(), &consumed), CountingIterator(text.data() + text.size(), &consumed),
                  &lines, Json::input_format_t::json, /*strict=*/true, /*ignore_comments=*/true);
  if (!lines.problems.empty()) {
    for (const auto& problem : lines.problems) problems.push_back(source + ":" + problem);
    fail_if_any(problems);
  }
  Json object;
  try {
    object = parse_json(text, source, {.comments = JsonComments::Accept});
  } catch (const Error& e) {
    problems.push_back(e.what());
    fail_if_any(problems);
  }
  if (!object.is_object()) {
    problems.push_back(fmt::format("{}:1: a configuration is one JSON object {{...}}", source));
    return;
  }
  FileReader(schema, config, source, lines, problems, given).read(object, "");
}

void check_whole(const Schema& schema, const void* config, const GivenKeys& given, std::vector<std::string>& problems) {
  for (const auto& field : schema.fields) {
    if (!field.required || !is_empty(field.load(config))) continue;
    const bool spoken = std::any_of(problems.begin(), problems.end(), [&](const std::string& p) {
      return p.find(": " + field.key + " = ") != std::string::npos || p.starts_with("--" + field.flag + " = ");
    });
    if (spoken) continue;  // it was given, wrongly, and that is already said
    problems.push_back(
        fmt::format("--{} is required (by flag, or as key {} of the --config file)", field.flag, field.key));
  }
  if (!problems.empty()) return;
  for (const auto& check : schema.checks) check(config, problems);
  check_switches(schema, config, given, problems);
}

void fail_if_any(const std::vector<std::string>& problems) {
  if (!problems.empty()) throw Error(ErrorKind::Usage, join(problems, "\n"));
}

void read_into(const Schema& schema, void* config, std::string_view text, const std::string& source) {
  std::vector<std::string> problems;
  GivenKeys given;
  read_file_text(schema, config, text, source, problems, given);
  check_whole(schema, config, given, problems);
  fail_if_any(problems);
}

std::string read_config_text(const std::string& path) {
  return std::string(MappedFile::open(path).text());
}

Json to_json(const Schema& schema, const void* config) {
  Json out = Json::object();
  for (const auto& field : schema.fields) {
    Json* at = &out;
    std::string_view rest = field.key;
    for (auto dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      at = &(*at)[std::string(rest.substr(0, dot))];
      rest.remove_prefix(dot + 1);
    }
    (*at)[std::string(rest)] = field.load(config);
  }
  return out;
}

}  // namespace slmi::config
