// The field list of a configuration struct: its attributes, and the one visitor that turns it into plain data.
//
//   struct LoraConfig {
//     int64_t rank = 16;
//     double alpha = 32.0;
//     template <class V> static void fields(V&& field) {
//       field("rank", &LoraConfig::rank, Range{1, 256}, "Rank R of the update; memory and capacity grow with it");
//       field("alpha", &LoraConfig::alpha, Range{0.01, 1024}, "Scale: the update is (alpha / rank) * B * A");
//     }
//   };
//   struct TrainConfig {
//     std::string base;
//     double lr = 2e-4;
//     Compute compute = Compute::Auto;
//     LoraConfig lora;      // --lora-rank, JSON {"lora": {"rank": 16}}
//     RuntimeConfig runtime;  // its fields as if they stood here
//     template <class V> static void fields(V&& field) {
//       field("base", &TrainConfig::base, Required{}, Metavar{"MODEL"}, "The model to start from");
//       field("lr", &TrainConfig::lr, Above{0}, Synonyms{"learning-rate"}, "Peak learning rate");
//       field("compute", &TrainConfig::compute, Choice<Compute>{{"auto", Compute::Auto}, {"f32", Compute::F32}},
//       "..."); field("lora", &TrainConfig::lora); field(Inline{}, &TrainConfig::runtime);
//     }
//     void check(std::vector<std::string>& problems) const;  // optional: what no single field can say
//   };
//
// Names are snake_case: JSON key "max_seq_len", flag --max-seq-len. Attributes come in any order; a plain string is the
// help. Field types: bool (--x / --no-x), integers, float, double, std::string, std::filesystem::path, enums (with
// Choice), std::optional and std::vector of these (a repeatable flag; with CommaSeparated also "--batch 1,8,32"), and
// structs that have fields themselves.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::config {

// --- Attributes ---------------------------------------------------------------------------------------------------

/// low <= value <= high. Of a list: each element.
struct Range {
  double low, high;
};
struct AtLeast {
  double low;
};
struct AtMost {
  double high;
};
/// value > low.
struct Above {
  double low;
};
/// value < high.
struct Below {
  double high;
};
/// Must be given by flag or file, and not empty.
struct Required {};
/// Also accepted as a bare argument: slmi predict "two oat milks please".
struct Positional {};
/// A list flag also splits at commas; without it only repetition adds elements (paths may hold commas).
struct CommaSeparated {};
/// The struct's fields are taken as if they stood in the outer struct.
struct Inline {};
/// Names that people may type instead; they are not accepted, but lead to "did you mean". As flags, without "--".
struct Synonyms {
  Synonyms(std::initializer_list<const char*> list) : names(list.begin(), list.end()) {}
  std::vector<std::string> names;
};
/// The flag's whole name (no prefix of the outer struct), where it is not the key's: Flag{"targets"} for lora.targets.
struct Flag {
  const char* name;
};
/// What stands for the value in the help: FILE, MODEL, N.
struct Metavar {
  const char* text;
};
/// Shown in the help where the default value alone would not tell: DefaultText{"the model's own"}.
struct DefaultText {
  const char* text;
};
/// Heading under which the help lists this field and those after it.
struct Group {
  const char* title;
};
/// Has a meaning only where one of these switches is on; given without (by flag, or by a file with another value than
/// the default) it is an error, never ignored. Switches are bool fields, by their whole keys.
struct OnlyWith {
  OnlyWith(std::initializer_list<const char*> list) : switches(list.begin(), list.end()) {}
  std::vector<std::string> switches;
};
/// Has no meaning where one of these switches is on.
struct NotWith {
  NotWith(std::initializer_list<const char*> list) : switches(list.begin(), list.end()) {}
  std::vector<std::string> switches;
};
/// The legal values of a string field.
struct OneOf {
  OneOf(std::initializer_list<const char*> list) : names(list.begin(), list.end()) {}
  std::vector<std::string> names;
};
/// The names of an enum's values.
template <class E>
struct Choice {
  Choice(std::initializer_list<std::pair<const char*, E>> list) : values(list.begin(), list.end()) {}
  std::vector<std::pair<std::string, E>> values;
};

// --- Plain data ---------------------------------------------------------------------------------------------------

enum class Kind { Boolean, Integer, Real, Text, Choice };

/// Bounds of a number; texts are as shown to people.
struct Limits {
  std::optional<double> low, high;
  bool low_open = false, high_open = false;
  /// "1..256", ">= 1", "> 0, < 1", or "" without bounds.
  std::string text() const;
  bool hold(double value) const;
};

/// One field of a schema, with every nested struct flattened.
struct Field {
  std::string key;   // "lora.rank", as in JSON
  std::string flag;  // "lora-rank", as in --lora-rank
  std::string help, metavar, default_text, group;
  Kind kind = Kind::Text;
  bool list = false, optional = false, required = false, positional = false, comma_separated = false;
  Limits limits;
  int64_t type_low = std::numeric_limits<int64_t>::min();    // of an integer's C++ type
  uint64_t type_high = std::numeric_limits<int64_t>::max();  // of an integer's C++ type
  std::vector<std::string> choices;                          // legal values of a Choice or OneOf
  std::vector<std::string> synonyms;
  std::vector<std::string> only_with, not_with;  // keys of switches
  /// Stores a value that find_problem() accepted.
  std::function<void(void* config, const Json& value)> store;
  std::function<Json(const void* config)> load;

  /// "" if the JSON value fits this field, else what was expected: "an integer, 1..256".
  std::string find_problem(const Json& value) const;
  /// "an integer, 1..256"; "one of auto, f32"; "text".
  std::string expected() const;
};

struct Schema {
  std::vector<Field> fields;  // in the order of declaration
  /// Cross-field checks of the struct and its nested structs; each appends what it finds.
  std::vector<std::function<void(const void* config, std::vector<std::string>& problems)>> checks;

  const Field* find_key(std::string_view key) const;
  const Field* find_flag(std::string_view flag) const;
};

// --- The visitor --------------------------------------------------------------------------------------------------

namespace detail {

struct Probe {
  template <class... A>
  void operator()(A&&...) const {}
};

template <class T>
concept HasFields = requires(Probe probe) {
  T::fields(probe);
};

template <class T>
concept HasCheck = requires(const T& value, std::vector<std::string>& problems) {
  value.check(problems);
};

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

/// Names of an enum's values while one field is collected; unused for other types.
template <class E>
using ChoiceTable = std::vector<std::pair<std::string, E>>;

template <class T>
T from_json(const Json& value, const ChoiceTable<T>& table) {
  if constexpr (std::is_enum_v<T>) {
    const auto* text = value.template get_ptr<const Json::string_t*>();  // null if it is none
    for (const auto& [name, item] : table) {
      if (text != nullptr && *text == name) return item;
    }
    fail(ErrorKind::Internal, "config: {} is not a name of the enum", value.dump());
  } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
    return value.get<std::string>();
  } else {
    return value.get<T>();
  }
}

template <class T>
Json to_json(const T& value, const ChoiceTable<T>& table) {
  if constexpr (std::is_enum_v<T>) {
    for (const auto& [name, item] : table) {
      if (value == item) return name;
    }
    fail(ErrorKind::Internal, "config: enum value {} has no name", static_cast<int64_t>(value));
  } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
    return value.string();
  } else {
    return value;
  }
}

/// Value type inside vectors and optionals.
template <class T>
struct Element {
  using type = T;
};
template <class T>
struct Element<std::vector<T>> {
  using type = T;
};
template <class T>
struct Element<std::optional<T>> {
  using type = T;
};

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
  } else if constexpr (std::is_enum_v<T>) {
    field.kind = Kind::Choice;
  } else {
    static_assert(std::is_same_v<T, std::string> || std::is_same_v<T, std::filesystem::path>,
                  "a field's type must be one that fields.h lists");
    field.kind = Kind::Text;
  }
}

/// Collects one struct's fields; `at` finds the struct inside the outermost one.
template <class Struct>
class Collector {
 public:
  Collector(Schema& schema, std::string key_prefix, std::string flag_prefix, std::function<Struct*(void*)> at)
      : schema_(schema), key_prefix_(std::move(key_prefix)), flag_prefix_(std::move(flag_prefix)), at_(std::move(at)) {}

  template <class Owner, class Member, class... Attributes>
  void operator()(const char* name, Member Owner::*member, const Attributes&... attributes) {
    if constexpr (HasFields<Member>) {
      (apply_to_group(attributes), ...);
      nest(member, key_prefix_ + name + ".", flag_prefix_ + dashes(name) + "-");
    } else {
      add(name, member, attributes...);
    }
  }

  template <class Owner, class Member, class... Attributes>
  void operator()(Inline, Member Owner::*member, const Attributes&... attributes) {
    static_assert(HasFields<Member>, "only a struct with fields can be inlined");
    (apply_to_group(attributes), ...);
    nest(member, key_prefix_, flag_prefix_);
  }

  void set_group(std::string group) { group_ = std::move(group); }

 private:
  static std::string dashes(std::string name) {
    for (char& c : name) c = c == '_' ? '-' : c;
    return name;
  }

  template <class Owner, class Member>
  void nest(Member Owner::*member, std::string key_prefix, std::string flag_prefix) {
    auto at = at_;
    Collector<Member> inner(schema_, std::move(key_prefix), std::move(flag_prefix),
                            [at, member](void* root) { return &(at(root)->*member); });
    inner.set_group(group_);
    inner.collect();
  }

  template <class Owner, class Member, class... Attributes>
  void add(const char* name, Member Owner::*member, const Attributes&... attributes) {
    using Value = typename Element<Member>::type;
    Field field;
    field.key = key_prefix_ + name;
    field.flag = flag_prefix_ + dashes(name);
    field.list = IsVector<Member>::value;
    field.optional = IsOptional<Member>::value;
    set_type<Value>(field);
    ChoiceTable<Value> table;
    (apply(field, table, attributes), ...);
    field.group = group_;
    auto at = at_;
    field.store = [at, member, table](void* root, const Json& value) {
      Member& out = at(root)->*member;
      if constexpr (IsVector<Member>::value) {
        out.clear();
        for (const auto& item : value) out.push_back(detail::from_json<Value>(item, table));
      } else if constexpr (IsOptional<Member>::value) {
        if (value.is_null()) {
          out.reset();
        } else {
          out = detail::from_json<Value>(value, table);
        }
      } else {
        out = detail::from_json<Value>(value, table);
      }
    };
    field.load = [at, member, table](const void* root) -> Json {
      const Member& in = at(const_cast<void*>(root))->*member;  // `at` only adds offsets; nothing is written
      if constexpr (IsVector<Member>::value) {
        Json out = Json::array();
        for (const Value& item : in) out.push_back(detail::to_json<Value>(item, table));
        return out;
      } else if constexpr (IsOptional<Member>::value) {
        return in ? detail::to_json<Value>(*in, table) : Json(nullptr);
      } else {
        return detail::to_json<Value>(in, table);
      }
    };
    schema_.fields.push_back(std::move(field));
  }

  template <class A>
  void apply_to_group(const A& attribute) {
    if constexpr (std::is_same_v<A, Group>) group_ = attribute.title;
  }

  template <class Table, class A>
  void apply(Field& field, Table& table, const A& attribute) {
    if constexpr (std::is_convertible_v<A, const char*>) {
      field.help = attribute;
    } else if constexpr (std::is_same_v<A, Group>) {
      group_ = attribute.title;
    } else if constexpr (std::is_same_v<A, Range>) {
      field.limits.low = attribute.low;
      field.limits.high = attribute.high;
    } else if constexpr (std::is_same_v<A, AtLeast> || std::is_same_v<A, Above>) {
      field.limits.low = attribute.low;
      field.limits.low_open = std::is_same_v<A, Above>;
    } else if constexpr (std::is_same_v<A, AtMost> || std::is_same_v<A, Below>) {
      field.limits.high = attribute.high;
      field.limits.high_open = std::is_same_v<A, Below>;
    } else if constexpr (std::is_same_v<A, Required>) {
      field.required = true;
    } else if constexpr (std::is_same_v<A, Positional>) {
      field.positional = true;
    } else if constexpr (std::is_same_v<A, CommaSeparated>) {
      field.comma_separated = true;
    } else if constexpr (std::is_same_v<A, Synonyms>) {
      field.synonyms = attribute.names;
    } else if constexpr (std::is_same_v<A, OnlyWith>) {
      field.only_with = attribute.switches;
    } else if constexpr (std::is_same_v<A, NotWith>) {
      field.not_with = attribute.switches;
    } else if constexpr (std::is_same_v<A, Flag>) {
      field.flag = attribute.name;
    } else if constexpr (std::is_same_v<A, Metavar>) {
      field.metavar = attribute.text;
    } else if constexpr (std::is_same_v<A, DefaultText>) {
      field.default_text = attribute.text;
    } else if constexpr (std::is_same_v<A, OneOf>) {
      field.choices = attribute.names;
    } else {
      table = attribute.values;  // Choice<E> of this field's enum
      for (const auto& [name, value] : table) field.choices.push_back(name);
    }
  }

 public:
  void collect() {
    Struct::fields(*this);
    if constexpr (HasCheck<Struct>) {
      auto at = at_;
      schema_.checks.push_back(
          [at](const void* root, std::vector<std::string>& problems) { at(const_cast<void*>(root))->check(problems); });
    }
  }

 private:
  Schema& schema_;
  std::string key_prefix_, flag_prefix_, group_;
  std::function<Struct*(void*)> at_;
};

}  // namespace detail

/// @throws Error{Internal} on a key or flag that stands twice, is not snake_case, on a field without help, or on one
///         that depends on what is no switch.
void check_names(const Schema& schema);

/// The flattened field list of T, checked by check_names.
template <class T>
Schema schema_of() {
  Schema schema;
  detail::Collector<T>(schema, "", "", [](void* root) { return static_cast<T*>(root); }).collect();
  check_names(schema);
  return schema;
}

}  // namespace slmi::config
