// Scores of one answer; see the header.
#include "slmi/metrics/scoring.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "slmi/base/error.h"

namespace slmi::metrics {
namespace {

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

std::optional<Json> try_parse(std::string_view text) {
  try {
    // What whoever takes the answer reads: their parsers let the last of two equal keys count.
    return parse_json(text, "answer", {.repeated_keys = RepeatedKeys::LastCounts});
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool may_be_structure(std::string_view text) {
  return text.starts_with('{') || text.starts_with('[');
}

/// The expected object or array; absent for a label.
std::optional<Json> expected_json(std::string_view answer) {
  return may_be_structure(trim(answer)) ? try_parse(answer) : std::nullopt;
}

// nlohmann compares an integer with a double by rounding it, and a negative one with a large unsigned one by wrapping.
bool numbers_equal(const Json& a, const Json& b) {
  if (a.is_number_float() && b.is_number_float()) return a.get<double>() == b.get<double>();
  if (a.is_number_float()) return numbers_equal(b, a);
  if (b.is_number_float()) {
    const double value = b.get<double>();
    constexpr double kTwo64 = 18446744073709551616.0;
    if (std::trunc(value) != value || std::abs(value) >= kTwo64) return false;
    if (value >= 0)
      return (a.is_number_unsigned() || a.get<int64_t>() >= 0) && a.get<uint64_t>() == static_cast<uint64_t>(value);
    return !a.is_number_unsigned() && a.get<int64_t>() < 0 && value >= -kTwo64 / 2 &&
           a.get<int64_t>() == static_cast<int64_t>(value);
  }
  const auto negative = [](const Json& x) { return !x.is_number_unsigned() && x.get<int64_t>() < 0; };
  return negative(a) == negative(b) && a.get<uint64_t>() == b.get<uint64_t>();
}

/// Elements of two arrays paired off whatever their order. Greedy is enough: equality is transitive.
bool equal_in_any_order(const Json& a, const Json& b) {
  if (!a.is_array() || !b.is_array() || a.size() != b.size()) return false;
  std::vector<bool> used(b.size(), false);
  for (const auto& item : a) {
    size_t i = 0;
    while (i < b.size() && (used[i] || !json_equal(item, b[i]))) ++i;
    if (i == b.size()) return false;
    used[i] = true;
  }
  return true;
}

bool all_objects(const Json& array) {
  return std::all_of(array.begin(), array.end(), [](const Json& item) { return item.is_object(); });
}

/// True if both objects have `key` with equal values, or neither has it.
bool key_agrees(const Json& expected, const Json& got, const std::string& key) {
  const bool there = expected.contains(key);
  if (!got.is_object()) return false;
  if (there != got.contains(key)) return false;
  return !there || json_equal(expected.at(key), got.at(key));
}

std::vector<std::pair<std::string, bool>> score_fields(const Json& expected, const Json& got) {
  std::vector<std::pair<std::string, bool>> out;
  if (expected.is_object()) {
    for (const auto& [key, value] : expected.items()) out.emplace_back(key, key_agrees(expected, got, key));
    return out;
  }
  if (!all_objects(expected)) return out;
  std::set<std::string> seen;
  for (const auto& item : expected) {
    for (const auto& [key, value] : item.items()) {
      if (!seen.insert(key).second) continue;
      bool agrees = got.is_array() && got.size() == expected.size();
      for (size_t i = 0; agrees && i < expected.size(); ++i) agrees = key_agrees(expected[i], got[i], key);
      out.emplace_back(key, agrees);
    }
  }
  return out;
}

/// The intent that a JSON answer shows.
std::optional<std::string> intent_of(const Json& answer) {
  if (answer.is_array() && answer.size() == 1) return intent_of(answer[0]);
  if (answer.is_array() && !answer.empty() && all_objects(answer)) return std::string(kMultiIntent);
  if (!answer.is_object()) return std::nullopt;
  for (const char* key : {"intent", "action"})
    if (answer.contains(key) && answer.at(key).is_string()) return answer.at(key).get<std::string>();
  return std::nullopt;
}

bool is_one_word(std::string_view label) {
  return !label.empty() && label.find_first_of(" \t\r\n\f\v") == std::string_view::npos;
}

using Pairs = std::map<std::pair<std::string, std::string>, int64_t>;  // (name, value as JSON text) -> how often

void add_pairs(const Json& slots, Pairs& out) {
  if (!slots.is_object()) return;
  for (const auto& [name, value] : slots.items()) {
    if (!value.is_array()) {
      ++out[{name, value.dump()}];
      continue;
    }
    for (const auto& item : value) ++out[{name, item.dump()}];
  }
}

const Json* slots_of(const std::optional<Json>& answer) {
  return answer && answer->is_object() && answer->contains("slots") ? &answer->at("slots") : nullptr;
}

SlotCounts count_slots(const Json& expected, const Json* got) {
  Pairs wanted, given;
  add_pairs(expected, wanted);
  if (got != nullptr) add_pairs(*got, given);
  SlotCounts out;
  for (const auto& [pair, count] : wanted) {
    out.expected += count;
    const auto found = given.find(pair);
    if (found != given.end()) out.both += std::min(count, found->second);
  }
  for (const auto& [pair, count] : given) out.answered += count;
  return out;
}

void score_label(const ExpectedRow& row, std::string_view got, RowScore& out) {
  const std::string_view label = trim(row.answer);
  out.exact_match = label == trim(got);
  if (label == row.intent || (row.intent.empty() && is_one_word(label))) {
    out.expected_intent = std::string(label);
    out.got_intent = trim(got).empty() ? std::string(kNoIntent) : std::string(trim(got));
  }
}

void score_json(const Json& expected, const std::optional<Json>& got, RowScore& out) {
  out.exact_match = got && json_equal(expected, *got);
  out.valid_json = got.has_value();
  if (expected.is_array()) out.order_free_match = got && equal_in_any_order(expected, *got);
  out.fields = score_fields(expected, got.value_or(Json()));
  out.expected_intent = intent_of(expected);
  if (out.expected_intent) {
    const auto intent = got ? intent_of(*got) : std::nullopt;
    out.got_intent = !got ? std::string(kNotJson) : intent.value_or(std::string(kNoIntent));
  }
}

}  // namespace

std::optional<double> slot_f1(const SlotCounts& counts) {
  const int64_t all = counts.expected + counts.answered;
  if (all == 0) return std::nullopt;
  return 2 * static_cast<double>(counts.both) / static_cast<double>(all);
}

bool json_equal(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) return numbers_equal(a, b);
  if (a.type() != b.type()) return false;
  if (a.is_object()) {
    if (a.size() != b.size()) return false;
    for (const auto& [key, value] : a.items())
      if (!b.contains(key) || !json_equal(value, b.at(key))) return false;
    return true;
  }
  if (a.is_array()) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i)
      if (!json_equal(a[i], b[i])) return false;
    return true;
  }
  return a == b;
}

bool is_exact_match(std::string_view expected, std::string_view got) {
  const auto wanted = expected_json(expected);
  if (!wanted) return trim(expected) == trim(got);
  const auto answer = try_parse(got);
  return answer && json_equal(*wanted, *answer);
}

RowScore score_row(const ExpectedRow& row, std::string_view got) {
  RowScore out;
  out.id = row.id;
  out.lang = row.lang;
  out.domain = row.domain;
  out.slice = row.slice;
  out.oos = row.oos;
  out.string_match = row.answer == got;
  const auto expected = expected_json(row.answer);
  const auto answer = may_be_structure(trim(got)) || expected ? try_parse(got) : std::nullopt;
  if (expected)
    score_json(*expected, answer, out);
  else
    score_label(row, got, out);
  const Json* slots = slots_of(expected);
  if (slots != nullptr && slots->is_object())
    out.slots = count_slots(*slots, slots_of(answer));
  else if (row.has_slots)
    out.slots = count_slots(row.slots, slots_of(answer));
  return out;
}

}  // namespace slmi::metrics
