// What a field accepts, in code and in words; see fields.h.
#include <algorithm>
#include <set>

#include "slmi/config/fields.h"
#include "text.h"

namespace slmi::config {

bool Limits::hold(double value) const {
  if (low && (low_open ? !(value > *low) : !(value >= *low))) return false;
  if (high && (high_open ? !(value < *high) : !(value <= *high))) return false;
  return true;
}

std::string Limits::text() const {
  if (low && high && !low_open && !high_open) return number_text(*low) + ".." + number_text(*high);
  std::string out;
  if (low) out = (low_open ? "> " : ">= ") + number_text(*low);
  if (high) out += (out.empty() ? "" : ", ") + std::string(high_open ? "< " : "<= ") + number_text(*high);
  return out;
}

namespace {

std::string element_name(const Field& field) {
  if (!field.choices.empty()) return "one of " + join(field.choices, ", ");
  switch (field.kind) {
    case Kind::Boolean:
      return "true or false";
    case Kind::Integer:
      return "an integer";
    case Kind::Real:
      return "a number";
    default:
      return "text";
  }
}

bool fits_integer(const Field& field, const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return number <= field.type_high && field.limits.hold(static_cast<double>(number));
  }
  if (!value.is_number_integer()) return false;
  const auto number = value.get<int64_t>();
  if (number < field.type_low) return false;
  if (number >= 0 && static_cast<uint64_t>(number) > field.type_high) return false;
  return field.limits.hold(static_cast<double>(number));
}

bool fits_element(const Field& field, const Json& value) {
  switch (field.kind) {
    case Kind::Boolean:
      return value.is_boolean();
    case Kind::Integer:
      return fits_integer(field, value);
    case Kind::Real:
      return value.is_number() && field.limits.hold(value.get<double>());
    default:
      if (!value.is_string()) return false;
      return field.choices.empty() || std::find(field.choices.begin(), field.choices.end(),
                                                value.get_ref<const std::string&>()) != field.choices.end();
  }
}

}  // namespace

std::string Field::expected() const {
  std::string out = element_name(*this);
  std::string bounds = limits.text();
  if (kind == Kind::Integer && bounds.empty() && type_low == 0) bounds = ">= 0";
  if (!bounds.empty()) out += ", " + bounds;
  if (list) out = "a list, each " + out;
  if (optional) out += ", or null";
  return out;
}

std::string Field::find_problem(const Json& value) const {
  if (optional && value.is_null()) return "";
  if (!list) {
    if (required && value.is_string() && value.get_ref<const std::string&>().empty()) return "text that is not empty";
    return fits_element(*this, value) ? "" : expected();
  }
  if (!value.is_array()) return expected();
  const bool fits =
      std::all_of(value.begin(), value.end(), [&](const Json& item) { return fits_element(*this, item); });
  if (!fits) return expected();
  return required && value.empty() ? "a list that is not empty" : "";
}

const Field* Schema::find_key(std::string_view key) const {
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.key == key; });
  return at == fields.end() ? nullptr : &*at;
}

const Field* Schema::find_flag(std::string_view flag) const {
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.flag == flag; });
  return at == fields.end() ? nullptr : &*at;
}

void check_names(const Schema& schema) {
  std::set<std::string> keys, flags;
  for (const auto& field : schema.fields) {
    const bool snake = std::all_of(field.key.begin(), field.key.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    });
    require(snake && !field.key.empty(), ErrorKind::Internal, "config: key '{}' is not snake_case", field.key);
    require(keys.insert(field.key).second, ErrorKind::Internal, "config: key {} stands twice", field.key);
    require(flags.insert(field.flag).second, ErrorKind::Internal, "config: flag --{} stands twice", field.flag);
    if (field.kind == Kind::Boolean) {
      require(flags.insert("no-" + field.flag).second, ErrorKind::Internal, "config: flag --no-{} stands twice",
              field.flag);
    }
    require(!field.help.empty(), ErrorKind::Internal, "config: {} has no help", field.key);
    require(field.kind != Kind::Choice || !field.choices.empty(), ErrorKind::Internal, "config: enum {} has no Choice",
            field.key);
    for (const auto* switches : {&field.only_with, &field.not_with}) {
      for (const auto& key : *switches) {
        const Field* other = schema.find_key(key);
        require(other != nullptr && other->kind == Kind::Boolean && !other->list && !other->optional,
                ErrorKind::Internal, "config: {} depends on {}, which is no switch", field.key, key);
      }
    }
  }
  // A key that is also the prefix of another would be a value and an object at once.
  for (const auto& key : keys) {
    const auto next = keys.lower_bound(key + ".");
    require(next == keys.end() || !next->starts_with(key + "."), ErrorKind::Internal,
            "config: {} is both a field and a group", key);
  }
}

}  // namespace slmi::config
