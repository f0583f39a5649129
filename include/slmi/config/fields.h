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
// help. Field types: bool (--x / --no-x), int, int64_t, uint64_t, float, double, std::string, std::filesystem::path,
// std::optional and std::vector of these (a repeatable flag; with CommaSeparated also "--batch 1,8,32"), enums (with
// Choice), and structs that have fields themselves.
#pragma once

#include <concepts>
#include <cstddef>
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

/// What a braced list of names is: a view, gone when the call that it was written in has ended.
struct Names {
  Names(std::initializer_list<const char*> list) : names(list) {}
  std::initializer_list<const char*> names;
};
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
struct Synonyms : Names {
  using Names::Names;
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
struct OnlyWith : Names {
  using Names::Names;
};
/// Has no meaning where one of these switches is on.
struct NotWith : Names {
  using Names::Names;
};
/// The legal values of a string field.
struct OneOf : Names {
  using Names::Names;
};
/// The names of an enum's values. A field with several has all of their names.
template <class E>
struct Choice {
  Choice(std::initializer_list<std::pair<const char*, E>> list) : values(list) {}
  std::vector<std::pair<const char*, E>> values;
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

/// An enum's values while one field is collected; empty for other types.
using ChoiceTable = std::vector<std::pair<std::string, int64_t>>;

/// How a member of some type is read and written, wherever it stands. One a type: fields are many, their types few.
struct MemberType {
  void (*describe)(Field& field);
  void (*store)(void* member, const Json& value, const ChoiceTable& table);
  Json (*load)(const void* member, const ChoiceTable& table);
};

/// The type's own; schema.cpp has those of all types but enums.
template <class T>
const MemberType& member_type();

int64_t choice_of(const Json& value, const ChoiceTable& table);
Json choice_name(int64_t value, const ChoiceTable& table);

template <class E>
requires std::is_enum_v<E>
struct EnumMember {
  static void describe(Field& field) { field.kind = Kind::Choice; }
  static void store(void* member, const Json& value, const ChoiceTable& table) {
    *static_cast<E*>(member) = static_cast<E>(choice_of(value, table));
  }
  static Json load(const void* member, const ChoiceTable& table) {
    return choice_name(static_cast<int64_t>(*static_cast<const E*>(member)), table);
  }
};

template <class T>
concept IsListed = std::is_same_v<T, bool> || std::is_same_v<T, int> || std::is_same_v<T, int64_t> ||
    std::is_same_v<T, uint64_t> || std::is_same_v<T, float> || std::is_same_v<T, double> ||
    std::is_same_v<T, std::string> || std::is_same_v<T, std::filesystem::path>;

template <class T>
const MemberType& type_of_member() {
  if constexpr (std::is_enum_v<T>) {
    static constexpr MemberType kType{EnumMember<T>::describe, EnumMember<T>::store, EnumMember<T>::load};
    return kType;
  } else {
    static_assert(IsListed<typename Element<T>::type>, "a field's type must be one that the top of this file lists");
    return member_type<T>();
  }
}

/// What all fields have in common, out of line: this is compiled for every field of every command.
class FieldCollector {
 public:
  explicit FieldCollector(Schema& schema) : schema_(schema) {}
  /// For a struct inside another, `offset` from the outermost one; a null name: as if its fields stood in the other.
  FieldCollector(const FieldCollector& outer, size_t offset, const char* name);

 protected:
  void begin(const char* name, size_t offset, const MemberType& type);
  void end();

  void apply(const char* help) { field_.help = help; }
  void apply(const Group& group) { group_ = group.title; }
  void apply(const Range& range);
  void apply(const AtLeast& limit) { field_.limits.low = limit.low; }
  void apply(const AtMost& limit) { field_.limits.high = limit.high; }
  void apply(const Above& limit);
  void apply(const Below& limit);
  void apply(const Required&) { field_.required = true; }
  void apply(const Positional&) { field_.positional = true; }
  void apply(const CommaSeparated&) { field_.comma_separated = true; }
  void apply(const Synonyms& synonyms);
  void apply(const OnlyWith& switches);
  void apply(const NotWith& switches);
  void apply(const Flag& flag) { field_.flag = flag.name; }
  void apply(const Metavar& metavar) { field_.metavar = metavar.text; }
  void apply(const DefaultText& text) { field_.default_text = text.text; }
  void apply(const OneOf& choices);
  template <class E>
  void apply(const Choice<E>& choice) {
    for (const auto& [name, value] : choice.values) add_choice(name, static_cast<int64_t>(value));
  }
  void add_choice(const char* name, int64_t value);

  void apply_to_group(const Group& group) { group_ = group.title; }

  Schema& schema_;
  size_t offset_ = 0;  // of the struct inside the outermost one

 private:
  std::string key_prefix_, flag_prefix_, group_;
  Field field_;
  size_t field_offset_ = 0;
  const MemberType* type_ = nullptr;
  ChoiceTable table_;
};

/// Collects one struct's fields.
template <class Struct>
class Collector : public FieldCollector {
 public:
  using FieldCollector::FieldCollector;

  template <class Owner, class Member, class... Attributes>
  void operator()(const char* name, Member Owner::*member, const Attributes&... attributes) {
    if constexpr (HasFields<Member>) {
      (apply_to_group(attributes), ...);
      Collector<Member>(*this, offset_ + offset_of(member), name).collect();
    } else {
      begin(name, offset_ + offset_of(member), type_of_member<Member>());
      (apply(attributes), ...);
      end();
    }
  }

  template <class Owner, class Member, class... Attributes>
  void operator()(Inline, Member Owner::*member, const Attributes&... attributes) {
    static_assert(HasFields<Member>, "only a struct with fields can be inlined");
    (apply_to_group(attributes), ...);
    Collector<Member>(*this, offset_ + offset_of(member), nullptr).collect();
  }

  void collect() {
    Struct::fields(*this);
    if constexpr (HasCheck<Struct>) {
      schema_.checks.push_back([offset = offset_](const void* root, std::vector<std::string>& problems) {
        reinterpret_cast<const Struct*>(static_cast<const std::byte*>(root) + offset)->check(problems);
      });
    }
  }

 private:
  template <class Owner, class Member>
  static size_t offset_of(Member Owner::*member) {
    static const Struct probe{};
    return static_cast<size_t>(reinterpret_cast<const std::byte*>(&(probe.*member)) -
                               reinterpret_cast<const std::byte*>(&probe));
  }
};

}  // namespace detail

/// @throws Error{Internal} on a key or flag that stands twice, is not snake_case, on a field without help, or on one
///         that depends on what is no switch.
void check_names(const Schema& schema);

/// The flattened field list of T, checked by check_names.
template <class T>
Schema schema_of() {
  Schema schema;
  detail::Collector<T>(schema).collect();
  check_names(schema);
  return schema;
}

}  // namespace slmi::config
