// One list of names a struct for both ways of its JSON: describe(visitor, struct) is called with a writer or a reader.
#pragma once

#include <concepts>
#include <filesystem>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::eval {

/// Collects fields into an object.
class FieldWriter {
 public:
  template <class T>
  void operator()(const char* name, T& value) {
    json_[name] = write(value);
  }
  Json take() { return std::move(json_); }

 private:
  template <class T>
  static Json write(const std::optional<T>& value) {
    return value ? write(*value) : Json(nullptr);
  }
  static Json write(const std::filesystem::path& value) { return value.string(); }
  template <class T>
  static Json write(const std::vector<T>& values) {
    Json out = Json::array();
    for (const auto& value : values) out.push_back(write(value));
    return out;
  }
  template <class A, class B>
  static Json write(const std::pair<A, B>& value) {
    return Json::array({write(value.first), write(value.second)});
  }
  template <class T>
  static Json write(const T& value) {
    if constexpr (requires(FieldWriter & v, T & x) { describe(v, x); }) {
      FieldWriter inner;
      describe(inner, const_cast<T&>(value));  // a writer only reads
      return inner.take();
    } else {
      return value;
    }
  }
  Json json_ = Json::object();
};

/// Takes fields from an object; every key must be there. @throws Error{Input} naming source and key.
class FieldReader {
 public:
  FieldReader(const Json& json, std::string source) : json_(json), source_(std::move(source)) {
    require(json.is_object(), ErrorKind::Input, "{}: expected an object", source_);
  }
  template <class T>
  void operator()(const char* name, T& value) {
    require(json_.contains(name), ErrorKind::Input, "{}: '{}' is missing; written by another version of slmi?", source_,
            name);
    read(json_[name], value, source_ + ": " + name);
  }

 private:
  template <class T>
  static void read(const Json& json, std::optional<T>& value, const std::string& where) {
    value.reset();
    if (json.is_null()) return;
    value.emplace();
    read(json, *value, where);
  }
  static void read(const Json& json, std::filesystem::path& value, const std::string& where) {
    std::string text;
    read(json, text, where);
    value = text;
  }
  template <class T>
  static void read(const Json& json, std::vector<T>& values, const std::string& where) {
    require(json.is_array(), ErrorKind::Input, "{}: expected an array", where);
    values.clear();
    for (const auto& item : json) read(item, values.emplace_back(), where);
  }
  template <class A, class B>
  static void read(const Json& json, std::pair<A, B>& value, const std::string& where) {
    require(json.is_array() && json.size() == 2, ErrorKind::Input, "{}: expected a pair", where);
    read(json[0], value.first, where);
    read(json[1], value.second, where);
  }
  template <class T>
  static void read(const Json& json, T& value, const std::string& where) {
    if constexpr (requires(FieldReader & v, T & x) { describe(v, x); }) {
      FieldReader inner(json, where);
      describe(inner, value);
    } else {
      const bool fits = std::is_same_v<T, std::string> ? json.is_string()
                        : std::is_same_v<T, bool>      ? json.is_boolean()
                        : std::is_integral_v<T>        ? json.is_number_integer()
                                                       : json.is_number();
      require(fits, ErrorKind::Input, "{}: unexpected {}", where, json.type_name());
      value = json.get<T>();
    }
  }
  const Json& json_;
  std::string source_;
};

}  // namespace slmi::eval
