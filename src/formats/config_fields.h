// Reading one JSON object with all problems collected, each naming its key. Internal to formats.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::formats {

/// Problems of one file: gathered, then thrown together.
class Problems {
 public:
  explicit Problems(std::string source) : source_(std::move(source)) {}
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    lines_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  bool empty() const { return lines_.empty(); }
  /// @throws Error{Input} "source: problem", or a list of at most 50 if there are several.
  void throw_if_any() const {
    constexpr size_t kMaxShown = 50;
    if (lines_.empty()) return;
    if (lines_.size() == 1) fail(ErrorKind::Input, "{}: {}", source_, lines_[0]);
    std::string text = fmt::format("{}: {} problems:", source_, lines_.size());
    for (size_t i = 0; i < std::min(lines_.size(), kMaxShown); ++i) text += "\n  " + lines_[i];
    if (lines_.size() > kMaxShown) text += fmt::format("\n  ... and {} more", lines_.size() - kMaxShown);
    throw Error(ErrorKind::Input, text);
  }

 private:
  std::string source_;
  std::vector<std::string> lines_;
};

/// The integer that a value holds, if it is one and fits 64 bits (a number such as 3.0 is none).
inline std::optional<int64_t> integer_of(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  if (!value.is_number_integer()) return std::nullopt;
  return value.get<int64_t>();
}

/// Typed look-ups in one JSON object; a wrong type or range becomes a problem, and the fallback is returned.
/// `prefix` stands before each key in messages: "rope_scaling.".
class Fields {
 public:
  Fields(const Json& object, Problems& problems, std::string prefix = {})
      : object_(object), problems_(problems), prefix_(std::move(prefix)) {}

  /// nullptr if absent or null.
  const Json* find(const char* key) const {
    const auto at = object_.find(key);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  bool has(const char* key) const { return find(key) != nullptr; }

  /// An integer in [low, high]; absent without a fallback is a problem.
  int64_t integer(const char* key, int64_t low, int64_t high, std::optional<int64_t> fallback = std::nullopt) const {
    const Json* value = find(key);
    if (value == nullptr) {
      if (!fallback) problems_.add("{}{} is missing", prefix_, key);
      return fallback.value_or(low);
    }
    const auto number = integer_of(*value);
    if (number && *number >= low && *number <= high) return *number;
    problems_.add("{}{} = {}; expected an integer from {} to {}", prefix_, key, shown(*value), low, high);
    return fallback.value_or(low);
  }
  /// A finite number in [low, high].
  double number(const char* key, double low, double high, std::optional<double> fallback = std::nullopt) const {
    const Json* value = find(key);
    if (value == nullptr) {
      if (!fallback) problems_.add("{}{} is missing", prefix_, key);
      return fallback.value_or(low);
    }
    if (value->is_number() && value->get<double>() >= low && value->get<double>() <= high) return value->get<double>();
    problems_.add("{}{} = {}; expected a number from {} to {}", prefix_, key, shown(*value), low, high);
    return fallback.value_or(low);
  }
  bool boolean(const char* key, bool fallback) const {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_boolean()) return value->get<bool>();
    problems_.add("{}{} = {}; expected true or false", prefix_, key, shown(*value));
    return fallback;
  }
  std::string text(const char* key, const std::string& fallback) const {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_string()) return value->get<std::string>();
    problems_.add("{}{} = {}; expected a string", prefix_, key, shown(*value));
    return fallback;
  }
  /// Short form of a value for messages.
  static std::string shown(const Json& value) {
    constexpr size_t kMaxShown = 80;
    std::string out = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (out.size() > kMaxShown) out = out.substr(0, kMaxShown) + "...";
    return out;
  }

 private:
  const Json& object_;
  Problems& problems_;
  std::string prefix_;
};

}  // namespace slmi::formats
