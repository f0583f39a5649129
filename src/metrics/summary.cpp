// Scores of all rows together; see the header.
#include "slmi/metrics/summary.h"

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>

#include "slmi/base/error.h"

namespace slmi::metrics {
namespace {

using Rows = std::vector<const RowScore*>;

double ratio(int64_t part, int64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

double f1_of(int64_t both, int64_t expected, int64_t answered) {
  return ratio(2 * both, expected + answered);
}

/// Right ones of those rows for which `right` gives a verdict.
template <class Right>
std::optional<Estimate> proportion(const Rows& rows, Right right) {
  int64_t n = 0, yes = 0;
  for (const RowScore* row : rows) {
    const std::optional<bool> verdict = right(*row);
    if (!verdict) continue;
    ++n;
    yes += *verdict ? 1 : 0;
  }
  if (n == 0) return std::nullopt;
  return wilson_interval(yes, n);
}

std::optional<bool> intent_right(const RowScore& row) {
  if (!row.expected_intent) return std::nullopt;
  return *row.expected_intent == row.got_intent;
}

std::optional<bool> exact(const RowScore& row) {
  return row.exact_match;
}

SlotCounts& operator+=(SlotCounts& sum, const SlotCounts& more) {
  sum.expected += more.expected;
  sum.answered += more.answered;
  sum.both += more.both;
  return sum;
}

std::optional<double> slot_f1_of(const Rows& rows) {
  SlotCounts sum;
  for (const RowScore* row : rows)
    if (row->slots) sum += *row->slots;
  return slot_f1(sum);
}

std::optional<Estimate> slot_f1_estimate(const Rows& rows, const BootstrapOptions& options) {
  std::vector<SlotCounts> counts;
  for (const RowScore* row : rows)
    if (row->slots) counts.push_back(*row->slots);
  if (counts.empty()) return std::nullopt;
  return bootstrap(static_cast<int64_t>(counts.size()), options, [&](std::span<const int64_t> draw) {
    SlotCounts sum;
    for (const int64_t i : draw) sum += counts[static_cast<size_t>(i)];
    return slot_f1(sum).value_or(std::numeric_limits<double>::quiet_NaN());
  });
}

Part part_of(const Rows& rows) {
  Part out;
  out.n = static_cast<int64_t>(rows.size());
  out.exact_match = proportion(rows, exact).value();
  out.intent_accuracy = proportion(rows, intent_right);
  out.slot_f1 = slot_f1_of(rows);
  return out;
}

/// Parts by a string of the row, in the order of first appearance; rows where it is empty are in none.
Named<Part> parts_by(const Rows& rows, std::string RowScore::*name) {
  std::vector<std::pair<std::string, Rows>> groups;
  for (const RowScore* row : rows) {
    const std::string& key = row->*name;
    if (key.empty()) continue;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& item) { return item.first == key; });
    if (group == groups.end()) group = groups.insert(groups.end(), {key, {}});
    group->second.push_back(row);
  }
  Named<Part> out;
  for (const auto& [key, members] : groups) out.emplace_back(key, part_of(members));
  return out;
}

Named<Estimate> fields_of(const Rows& rows) {
  Named<std::pair<int64_t, int64_t>> counts;  // right, all
  for (const RowScore* row : rows) {
    for (const auto& [name, right] : row->fields) {
      auto field =
          std::find_if(counts.begin(), counts.end(), [&name = name](const auto& item) { return item.first == name; });
      if (field == counts.end()) field = counts.insert(counts.end(), {name, {0, 0}});
      field->second.first += right ? 1 : 0;
      ++field->second.second;
    }
  }
  Named<Estimate> out;
  for (const auto& [name, count] : counts) out.emplace_back(name, wilson_interval(count.first, count.second));
  return out;
}

/// Intents as numbers: the expected ones 0 .. labels-1 by name, others from there on.
class Intents {
 public:
  explicit Intents(const Rows& rows) {
    std::map<std::string, int64_t> sorted;
    for (const RowScore* row : rows)
      if (row->expected_intent) sorted.emplace(*row->expected_intent, 0);
    for (auto& [label, index] : sorted) {
      index = static_cast<int64_t>(labels_.size());
      labels_.push_back(label);
    }
    for (const RowScore* row : rows) {
      if (!row->expected_intent) continue;
      const auto got = sorted.find(row->got_intent);
      rows_.push_back({sorted.at(*row->expected_intent), got == sorted.end() ? -1 : got->second, row});
    }
  }

  bool empty() const { return rows_.empty(); }

  Named<ClassScore> per_intent() const {
    Named<ClassScore> out;
    const Counts counts = count_all();
    std::vector<int64_t> exact(labels_.size(), 0);
    for (const auto& row : rows_) exact[static_cast<size_t>(row.expected)] += row.score->exact_match ? 1 : 0;
    for (size_t i = 0; i < labels_.size(); ++i) {
      const int64_t both = counts.both[i], support = counts.expected[i], answered = counts.answered[i];
      out.emplace_back(labels_[i],
                       ClassScore{ratio(both, answered), ratio(both, support), f1_of(both, support, answered), support,
                                  answered, ratio(exact[i], support)});
    }
    return out;
  }

  std::optional<Estimate> macro_f1(const BootstrapOptions& options) const {
    Counts counts(labels_.size());
    return bootstrap(static_cast<int64_t>(rows_.size()), options, [&](std::span<const int64_t> draw) {
      counts.clear();
      for (const int64_t i : draw) counts.add(rows_[static_cast<size_t>(i)]);
      double sum = 0;
      int64_t present = 0;
      for (size_t i = 0; i < labels_.size(); ++i) {
        if (counts.expected[i] == 0) continue;
        ++present;
        sum += f1_of(counts.both[i], counts.expected[i], counts.answered[i]);
      }
      return sum / static_cast<double>(present);
    });
  }

  ConfusionMatrix confusion() const {
    ConfusionMatrix out;
    out.expected = out.answered = labels_;
    std::map<std::string_view, size_t> column;  // of the special ones
    for (const std::string_view special : {kOtherIntent, kNotJson, kNoIntent}) {
      const bool occurs = std::any_of(rows_.begin(), rows_.end(),
                                      [&](const Row& row) { return row.got < 0 && special_of(*row.score) == special; });
      if (!occurs) continue;
      column.emplace(special, out.answered.size());
      out.answered.emplace_back(special);
    }
    out.counts.assign(labels_.size(), std::vector<int64_t>(out.answered.size(), 0));
    for (const auto& row : rows_) {
      const size_t at = row.got >= 0 ? static_cast<size_t>(row.got) : column.at(special_of(*row.score));
      ++out.counts[static_cast<size_t>(row.expected)][at];
    }
    return out;
  }

  /// Out-of-scope rows as one class.
  std::optional<ClassScore> out_of_scope() const {
    std::vector<bool> is_outside(labels_.size(), false);
    ClassScore out;
    int64_t both = 0, exact = 0;
    for (const auto& row : rows_)
      if (row.score->oos) is_outside[static_cast<size_t>(row.expected)] = true;
    for (const auto& row : rows_) {
      const bool answered = row.got >= 0 && is_outside[static_cast<size_t>(row.got)];
      out.answered += answered ? 1 : 0;
      if (!row.score->oos) continue;
      ++out.support;
      both += answered ? 1 : 0;
      exact += row.score->exact_match ? 1 : 0;
    }
    if (out.support == 0) return std::nullopt;
    out.precision = ratio(both, out.answered);
    out.recall = ratio(both, out.support);
    out.f1 = f1_of(both, out.support, out.answered);
    out.exact_match = ratio(exact, out.support);
    return out;
  }

 private:
  struct Row {
    int64_t expected = 0, got = -1;  // -1: no label that rows expect
    const RowScore* score = nullptr;
  };
  struct Counts {
    explicit Counts(size_t n) : expected(n, 0), answered(n, 0), both(n, 0) {}
    void clear() {
      for (auto* list : {&expected, &answered, &both}) std::fill(list->begin(), list->end(), 0);
    }
    void add(const Row& row) {
      ++expected[static_cast<size_t>(row.expected)];
      if (row.got >= 0) ++answered[static_cast<size_t>(row.got)];
      if (row.got == row.expected) ++both[static_cast<size_t>(row.got)];
    }
    std::vector<int64_t> expected, answered, both;
  };
  Counts count_all() const {
    Counts counts(labels_.size());
    for (const auto& row : rows_) counts.add(row);
    return counts;
  }
  static std::string_view special_of(const RowScore& row) {
    return row.got_intent == kNotJson ? kNotJson : row.got_intent == kNoIntent ? kNoIntent : kOtherIntent;
  }

  std::vector<std::string> labels_;
  std::vector<Row> rows_;
};

}  // namespace

Summary summarize(std::span<const RowScore> scores, const SummaryOptions& options) {
  require(!scores.empty(), ErrorKind::Internal, "summarize: no rows");
  Rows rows, clean;
  for (const auto& score : scores) {
    rows.push_back(&score);
    if (!options.leaked_ids.contains(score.id)) clean.push_back(&score);
  }
  Summary out;
  out.n = static_cast<int64_t>(rows.size());
  out.exact_match = proportion(rows, exact).value();
  out.string_match = proportion(rows, [](const RowScore& row) { return std::optional(row.string_match); }).value();
  out.valid_json = proportion(rows, [](const RowScore& row) { return row.valid_json; });
  out.order_free_match = proportion(rows, [](const RowScore& row) { return row.order_free_match; });
  out.fields = fields_of(rows);
  out.intent_accuracy = proportion(rows, intent_right);
  const Intents intents(rows);
  if (!intents.empty()) {
    out.per_intent = intents.per_intent();
    out.macro_f1 = intents.macro_f1(options.bootstrap);
    out.confusion = intents.confusion();
    out.out_of_scope = intents.out_of_scope();
  }
  out.slot_f1 = slot_f1_estimate(rows, options.bootstrap);
  out.slices = parts_by(rows, &RowScore::slice);
  out.languages = parts_by(rows, &RowScore::lang);
  out.leaked = out.n - static_cast<int64_t>(clean.size());
  if (out.leaked > 0 && !clean.empty()) out.without_leaks = part_of(clean);
  return out;
}

Comparison compare(std::string reference_name, std::span<const RowScore> reference, std::span<const RowScore> system) {
  std::unordered_map<std::string_view, bool> right;
  for (const auto& row : reference)
    require(right.emplace(row.id, row.exact_match).second, ErrorKind::Internal, "compare: '{}' has row '{}' twice",
            reference_name, row.id);
  std::vector<PairedRow> rows;
  for (const auto& row : system) {
    const auto found = right.find(row.id);
    if (found != right.end()) rows.push_back({row.id, found->second, row.exact_match});
  }
  return compare_paired(std::move(reference_name), rows);
}

}  // namespace slmi::metrics
