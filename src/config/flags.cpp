// Flags of a command: one CLI11 option a field, whose texts are judged after parsing by the same rules as the JSON
// file.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "help.h"
#include "slmi/base/error.h"
#include "slmi/base/suggest.h"
#include "slmi/config/config.h"
#include "text.h"

namespace slmi::config {
namespace {

/// The whole text as a number, or nothing.
template <class T>
std::optional<T> number_from(std::string_view text) {
  T out{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return out;
}

/// A flag's text as the JSON value that a file would hold; text that is no such value stays text, and is refused later.
Json json_from(const Field& field, const std::string& text) {
  if (field.kind == Kind::Boolean) {
    if (text == "true" || text == "1") return true;
    if (text == "false" || text == "0") return false;
  } else if (field.kind == Kind::Integer) {
    if (const auto value = number_from<int64_t>(text)) return *value;
    if (const auto value = number_from<uint64_t>(text)) return *value;
  } else if (field.kind == Kind::Real) {
    const auto value = number_from<double>(text);
    if (value && std::isfinite(*value)) return *value;
  }
  return text;
}

std::vector<std::string> split_at_commas(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  for (const auto& text : texts) {
    size_t begin = 0;
    while (true) {
      const auto comma = text.find(',', begin);
      out.push_back(text.substr(begin, comma - begin));
      if (comma == std::string::npos) break;
      begin = comma + 1;
    }
  }
  return out;
}

/// What CLI11 shall call the option: "--rank", "--packing,!--no-packing", "--text,text" (positional).
std::string option_name(const Field& field) {
  if (field.kind == Kind::Boolean && !field.list) return fmt::format("--{0},!--no-{0}", field.flag);
  return field.positional ? fmt::format("--{0},{0}", field.flag) : "--" + field.flag;
}

}  // namespace

struct Flags::State {
  Schema schema;
  CLI::Option* config_option = nullptr;
  std::vector<CLI::Option*> options;  // in the order of schema.fields
  std::string config_file;
  std::map<std::string, Source> sources;

  /// Texts that the command line gave for a field, elements of a list apart.
  std::vector<std::string> texts_of(size_t i) const {
    const auto& texts = options[i]->results();
    return schema.fields[i].comma_separated ? split_at_commas(texts) : texts;
  }
  void apply_flag(size_t i, void* config, GivenKeys& given, std::vector<std::string>& problems);
};

void Flags::State::apply_flag(size_t i, void* config, GivenKeys& given, std::vector<std::string>& problems) {
  const auto& field = schema.fields[i];
  const auto texts = texts_of(i);
  if (options[i]->count() == 0 || texts.empty()) return;
  const auto refuse = [&](const std::string& text, const std::string& expected) {
    problems.push_back(fmt::format("--{} = {}; expected {}{}", field.flag, text.empty() ? "(empty)" : text, expected,
                                   did_you_mean(nearest_name(text, field.choices))));
  };
  Json value = Json::array();
  for (const auto& text : texts) value.push_back(json_from(field, text));
  if (!field.list) {
    if (const auto expected = field.find_problem(value.back()); !expected.empty()) {
      refuse(texts.back(), expected);
      return;
    }
    field.store(config, value.back());
  } else {
    Field element = field;  // each element is judged alone, so that the message names the one that is wrong
    element.list = false;
    bool good = true;
    for (size_t k = 0; k < texts.size(); ++k) {
      const auto expected = element.find_problem(value[k]);
      if (!expected.empty()) refuse(texts[k], expected);
      good = good && expected.empty();
    }
    if (!good) return;
    field.store(config, value);
  }
  sources[field.key] = Source::Flag;
  const bool negated = field.kind == Kind::Boolean && !field.list && value.back() == Json(false);
  given[field.key] = {(negated ? "--no-" : "--") + field.flag, /*matters=*/true};
}

Flags::Flags(CLI::App& command, Schema schema, const void* defaults) : state_(std::make_shared<State>()) {
  auto state = state_;
  state->schema = std::move(schema);
  require(state->schema.find_flag("config") == nullptr && state->schema.find_flag("help") == nullptr,
          ErrorKind::Internal, "config: --config and --help are taken");
  auto formatter = std::make_shared<HelpFormatter>();
  state->config_option = command.add_option("--config", state->config_file, "JSON file with values for these options");
  formatter->add_other(state->config_option, "FILE",
                       "JSON file with any of these values (// comments allowed); flags win");
  formatter->set_schema(state->schema);
  for (const auto& field : state->schema.fields) {
    CLI::Option* option = nullptr;
    if (field.kind == Kind::Boolean && !field.list) {
      option = command.add_flag(option_name(field), field.help)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    } else {
      // Raw texts are read back through results(): CLI11's own conversions differ between its versions.
      option = command.add_option(
          option_name(field), [](const CLI::results_t&) { return true; }, field.help);
      option->expected(1)->type_size(1);
      if (field.list) {
        option->expected(1, CLI::detail::expected_max_vector_size)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
        option->allow_extra_args(field.positional);
      }
    }
    state->options.push_back(option);
    formatter->add(option, field, default_text_of(field, field.load(defaults)));
  }
  command.formatter(formatter);
}

Flags::~Flags() = default;

void Flags::resolve(void* config, const std::string& file) {
  std::vector<std::string> problems;
  GivenKeys given;
  state_->sources.clear();
  for (const auto& path : {file, state_->config_file}) {
    if (!path.empty()) read_file_text(state_->schema, config, read_config_text(path), path, problems, given);
  }
  for (const auto& [key, what] : given) state_->sources[key] = Source::File;
  for (size_t i = 0; i < state_->options.size(); ++i) state_->apply_flag(i, config, given, problems);
  check_whole(state_->schema, config, given, problems);
  fail_if_any(problems);
}

Source Flags::source_of(std::string_view key) const {
  require(state_->schema.find_key(key) != nullptr, ErrorKind::Internal, "config: no field {}", key);
  const auto at = state_->sources.find(std::string(key));
  return at == state_->sources.end() ? Source::Default : at->second;
}

std::optional<std::string> Flags::text_of(std::string_view key) const {
  for (size_t i = 0; i < state_->options.size(); ++i) {
    if (state_->schema.fields[i].key != key) continue;
    const auto texts = state_->texts_of(i);
    if (texts.empty()) return std::nullopt;
    return state_->schema.fields[i].list ? texts.front() : texts.back();
  }
  fail(ErrorKind::Internal, "config: no field {}", key);
}

const Schema& Flags::schema() const {
  return state_->schema;
}

}  // namespace slmi::config
