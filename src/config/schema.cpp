// What a field accepts, in code and in words; see fields.h.
#include <algorithm>
#include <memory>
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

namespace detail {
namespace {

template <class T>
void set_type(Field& field) {
  if constexpr (std::is_same_v<T, bool>) {
    field.kind = Kind::Boolean;
  } else if constexpr (std::is_integral_v<T>) {
    field.kind = Kind::Integer;
    field.type_low = static_cast<int64_t>(std::numeric_limits<T>::min());
    field.type_high = static_cast<uint64_t>(std::numeric_limits<T>::max());
  } else if constexpr (std::is_floating_point_v<T>) {
    field.kind = Kind::Real;
  } else {
    field.kind = Kind::Text;
  }
}

template <class T>
T from_json(const Json& value) {
  if constexpr (std::is_same_v<T, std::filesystem::path>)
    return value.get<std::string>();
  else
    return value.get<T>();
}

template <class T>
Json to_json(const T& value) {
  if constexpr (std::is_same_v<T, std::filesystem::path>)
    return value.string();
  else
    return value;
}

template <class T>
struct Plain {
  static void describe(Field& field) { set_type<T>(field); }
  static void store(void* member, const Json& value, const ChoiceTable&) {
    *static_cast<T*>(member) = from_json<T>(value);
  }
  static Json load(const void* member, const ChoiceTable&) { return to_json(*static_cast<const T*>(member)); }
};

template <class T>
struct Plain<std::optional<T>> {
  static void describe(Field& field) {
    set_type<T>(field);
    field.optional = true;
  }
  static void store(void* member, const Json& value, const ChoiceTable&) {
    auto& out = *static_cast<std::optional<T>*>(member);
    if (value.is_null())
      out.reset();
    else
      out = from_json<T>(value);
  }
  static Json load(const void* member, const ChoiceTable&) {
    const auto& in = *static_cast<const std::optional<T>*>(member);
    return in ? to_json(*in) : Json(nullptr);
  }
};

template <class T>
struct Plain<std::vector<T>> {
  static void describe(Field& field) {
    set_type<T>(field);
    field.list = true;
  }
  static void store(void* member, const Json& value, const ChoiceTable&) {
    auto& out = *static_cast<std::vector<T>*>(member);
    out.clear();
    for (const auto& item : value) out.push_back(from_json<T>(item));
  }
  static Json load(const void* member, const ChoiceTable&) {
    Json out = Json::array();
    for (const auto& item : *static_cast<const std::vector<T>*>(member)) out.push_back(to_json<T>(item));
    return out;
  }
};

std::vector<std::string> to_strings(const Names& names) {
  return {names.names.begin(), names.names.end()};
}

}  // namespace

template <class T>
const MemberType& member_type() {
  static constexpr MemberType kType{Plain<T>::describe, Plain<T>::store, Plain<T>::load};
  return kType;
}

// The types that fields.h lists, alone, optional and in lists.
#define SLMI_FIELD_TYPE(T)                                    \
  template const MemberType& member_type<T>();                \
  template const MemberType& member_type<std::optional<T>>(); \
  template const MemberType& member_type<std::vector<T>>();
SLMI_FIELD_TYPE(bool)
SLMI_FIELD_TYPE(int)
SLMI_FIELD_TYPE(int64_t)
SLMI_FIELD_TYPE(uint64_t)
SLMI_FIELD_TYPE(float)
SLMI_FIELD_TYPE(double)
SLMI_FIELD_TYPE(std::string)
SLMI_FIELD_TYPE(std::filesystem::path)
#undef SLMI_FIELD_TYPE

int64_t choice_of(const Json& value, const ChoiceTable& table) {
  const auto* text = value.get_ptr<const Json::string_t*>();  // null if it is none
  for (const auto& [name, item] : table)
    if (text != nullptr && *text == name) return item;
  fail(ErrorKind::Internal, "config: {} is not a name of the enum", value.dump());
}

Json choice_name(int64_t value, const ChoiceTable& table) {
  for (const auto& [name, item] : table)
    if (value == item) return name;
  fail(ErrorKind::Internal, "config: enum value {} has no name", value);
}

FieldCollector::FieldCollector(const FieldCollector& outer, size_t offset, const char* name)
    : schema_(outer.schema_),
      offset_(offset),
      key_prefix_(outer.key_prefix_),
      flag_prefix_(outer.flag_prefix_),
      group_(outer.group_) {
  if (name == nullptr) return;
  key_prefix_ += std::string(name) + ".";
  flag_prefix_ += with_dashes(name) + "-";
}

void FieldCollector::begin(const char* name, size_t offset, const MemberType& type) {
  field_ = {};
  table_.clear();
  field_offset_ = offset;
  type_ = &type;
  field_.key = key_prefix_ + name;
  field_.flag = flag_prefix_ + with_dashes(name);
  type.describe(field_);
}

void FieldCollector::end() {
  field_.group = group_;
  const auto table = std::make_shared<const ChoiceTable>(std::move(table_));
  field_.store = [offset = field_offset_, store = type_->store, table](void* root, const Json& value) {
    store(static_cast<std::byte*>(root) + offset, value, *table);
  };
  field_.load = [offset = field_offset_, load = type_->load, table](const void* root) {
    return load(static_cast<const std::byte*>(root) + offset, *table);
  };
  schema_.fields.push_back(std::move(field_));
}

void FieldCollector::apply(const Range& range) {
  field_.limits.low = range.low;
  field_.limits.high = range.high;
}
void FieldCollector::apply(const Above& limit) {
  field_.limits.low = limit.low;
  field_.limits.low_open = true;
}
void FieldCollector::apply(const Below& limit) {
  field_.limits.high = limit.high;
  field_.limits.high_open = true;
}
void FieldCollector::apply(const Synonyms& synonyms) {
  field_.synonyms = to_strings(synonyms);
}
void FieldCollector::apply(const OnlyWith& switches) {
  field_.only_with = to_strings(switches);
}
void FieldCollector::apply(const NotWith& switches) {
  field_.not_with = to_strings(switches);
}
void FieldCollector::apply(const OneOf& choices) {
  field_.choices = to_strings(choices);
}
void FieldCollector::add_choice(const char* name, int64_t value) {
  table_.emplace_back(name, value);
  field_.choices.emplace_back(name);
}

}  // namespace detail

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
