// One answer against the expected one: what is right about it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "slmi/base/json.h"

namespace slmi::metrics {

/// What a row of the data set expects, whatever it was read from.
struct ExpectedRow {
  std::string id;
  std::string answer;           // the target string
  std::string intent = {};      // the row's `intent`, if it has one
  bool has_slots = false;       // slots {} and no slots at all are different things
  Json slots = Json::object();  // name -> string or array of strings; used where `answer` has no `slots` of its own
  std::string lang = {}, domain = {}, slice = {};
  bool oos = false;  // out of scope
};

/// Slot pairs (name, value) of a row. Arrays count one pair a value; equal pairs count as often as they occur.
struct SlotCounts {
  int64_t expected = 0, answered = 0, both = 0;
};
/// 2 both / (expected + answered), 0..1; absent if there are none on either side.
std::optional<double> slot_f1(const SlotCounts& counts);

/// got_intent where the answer gives none.
inline constexpr std::string_view kNotJson = "(not JSON)";
inline constexpr std::string_view kNoIntent = "(no intent)";
/// The intent of an array of several actions.
inline constexpr std::string_view kMultiIntent = "multi";

/// An expected answer is JSON if it is an object or an array; anything else (a bare label, a number, free text) is a
/// label.
struct RowScore {
  std::string id, lang, domain, slice;
  bool oos = false;
  /// JSON: the parsed values are equal (json_equal). Label: equal after trimming white space.
  bool exact_match = false;
  /// Equal byte for byte.
  bool string_match = false;
  /// The answer parses as one JSON value without trailing text or repeated keys; absent where a label is expected.
  std::optional<bool> valid_json;
  /// Where an array is expected: its elements in any order.
  std::optional<bool> order_free_match;
  /// Each top-level key of the expected object, in its order, and whether the answer's value is equal. For an array of
  /// objects: whether the values of that key agree in all places.
  std::vector<std::pair<std::string, bool>> fields;
  /// The expected object's `intent`, else its `action`; "multi" for an array of two or more; a label itself, if it is
  /// the row's intent or the row has none and it is one word. Absent: the row has no intent that an answer could show.
  std::optional<std::string> expected_intent;
  /// The same of the answer; kNotJson or kNoIntent where it shows none. Empty without an expected one.
  std::string got_intent;
  /// Where slots are annotated.
  std::optional<SlotCounts> slots;
};

RowScore score_row(const ExpectedRow& row, std::string_view got);

/// RowScore::exact_match alone. Never throws on odd answers.
bool is_exact_match(std::string_view expected, std::string_view got);

/// Equality of values: objects whatever their order, arrays in order, numbers by value (2 equals 2.0).
bool json_equal(const Json& a, const Json& b);

}  // namespace slmi::metrics
