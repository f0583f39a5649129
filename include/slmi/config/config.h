// Configuration of a command: defaults < JSON file (--config FILE) < flags, all from one field list (fields.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/config/fields.h"

namespace CLI {
class App;
}

namespace slmi::config {

/// Where a field's value came from.
enum class Source { Default, File, Flag };

/// A command's flags, and the values they got once CLI11 has parsed. Type-erased half of Binding.
class Flags {
 public:
  /// Adds --config and one flag a field to `command`, and our help formatter. `defaults` points to the struct's
  /// defaults.
  Flags(CLI::App& command, Schema schema, const void* defaults);
  ~Flags();
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  /// Fills `config` (which holds the defaults). `file` is read before --config's.
  void resolve(void* config, const std::string& file);
  Source source_of(std::string_view key) const;
  std::optional<std::string> text_of(std::string_view key) const;
  const Schema& schema() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Made by bind(); keep it until the command has run.
template <class T>
class Binding {
 public:
  Binding(CLI::App& command, T defaults)
      : defaults_(std::move(defaults)), flags_(command, schema_of<T>(), &defaults_) {}

  /// After parsing: defaults, then `file` (e.g. a run's own config.json, for --resume), then --config's file, then
  /// flags.
  /// @throws Error{Usage} listing every problem of the file and of the flags, one a line:
  ///   "configs/qlora.json:14: lora.rank = 0; expected an integer, 1..256".  Error{Input} if a file cannot be read.
  T resolve(const std::string& file = {}) {
    T out = defaults_;
    flags_.resolve(&out, file);
    return out;
  }
  /// Where the value of a key ("lora.rank") came from; right after resolve(). @throws Error{Internal}: no such key.
  Source source_of(std::string_view key) const { return flags_.source_of(key); }
  /// The text given by flag for a key, before resolve(): to look at --resume first. Of a list, the first.
  std::optional<std::string> text_of(std::string_view key) const { return flags_.text_of(key); }
  const Schema& schema() const { return flags_.schema(); }

 private:
  T defaults_;
  Flags flags_;
};

/// Gives `command` the flags of T, --config FILE and a help made from T's fields.
template <class T>
std::shared_ptr<Binding<T>> bind(CLI::App& command, T defaults = {}) {
  return std::make_shared<Binding<T>>(command, std::move(defaults));
}

// --- Type-erased halves of the functions below ---
Json to_json(const Schema& schema, const void* config);
void read_into(const Schema& schema, void* config, std::string_view text, const std::string& source);
std::string values_table(const Schema& schema, const void* config);
std::string markdown_table(const Schema& schema, const void* defaults);

/// All fields as nested JSON in the order of declaration; reading it back gives an equal struct.
template <class T>
Json resolved_json(const T& config) {
  return to_json(schema_of<T>(), &config);
}

/// Reads a JSON text (// and /* */ comments allowed) over `defaults`; `source` names it in errors.
/// Required fields, ranges and cross-field checks are enforced. @throws Error{Usage} with every problem.
template <class T>
T from_text(std::string_view text, const std::string& source, T defaults = {}) {
  read_into(schema_of<T>(), &defaults, text, source);
  return defaults;
}

/// The same from a file. @throws Error{Usage}; Error{Input} if it cannot be read.
std::string read_config_text(const std::string& path);
template <class T>
T from_file(const std::string& path, T defaults = {}) {
  return from_text<T>(read_config_text(path), path, std::move(defaults));
}

/// "  lora.rank   16" a line: what a command prints at its start.
template <class T>
std::string values_table(const T& config) {
  return values_table(schema_of<T>(), &config);
}

/// A Markdown table of flag, JSON key, default, limits and help, for the documentation.
template <class T>
std::string markdown_table(const T& defaults = {}) {
  return markdown_table(schema_of<T>(), &defaults);
}

}  // namespace slmi::config
