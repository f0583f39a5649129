// Scores of all rows together: what a report shows of one system.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "slmi/metrics/scoring.h"
#include "slmi/metrics/statistics.h"

namespace slmi::metrics {

/// A map in the order in which it shall be shown.
template <class T>
using Named = std::vector<std::pair<std::string, T>>;

/// Precision, recall, F1 of one class; a ratio of 0 / 0 is 0.
struct ClassScore {
  double precision = 0, recall = 0, f1 = 0;
  int64_t support = 0;                // rows that expect the class
  int64_t answered = 0;               // rows answered with it
  std::optional<double> exact_match;  // of the rows that expect it; absent where there are none
};

/// Rows by expected (row) and answered (column) intent. The columns are the expected ones in the same order, then those
/// of kOtherIntent, kNotJson, kNoIntent that occur.
struct ConfusionMatrix {
  std::vector<std::string> expected, answered;
  std::vector<std::vector<int64_t>> counts;  // [expected][answered]
};
/// Column of answers whose intent no row expects.
inline constexpr std::string_view kOtherIntent = "(other)";

/// A part of the rows: a slice, a language, the rows without leaks.
struct Part {
  int64_t n = 0;
  Estimate exact_match;
  std::optional<Estimate> intent_accuracy;  // Wilson, of the part's rows that have an intent
  std::optional<double> slot_f1;            // of those that have slots
};

/// All scores in 0..1. Proportions have Wilson's 95 % interval, F1 scores the bootstrap's over rows.
struct Summary {
  int64_t n = 0;
  Estimate exact_match, string_match;
  std::optional<Estimate> valid_json;        // of the rows that expect JSON; absent without any
  std::optional<Estimate> order_free_match;  // of the rows that expect an array
  Named<Estimate> fields;                    // of the rows that expect the field, in the order of first appearance
  std::optional<Estimate> intent_accuracy;   // of the rows that have an intent
  std::optional<Estimate> macro_f1;          // mean F1 of the intents that rows expect, each counting the same
  Named<ClassScore> per_intent;              // of the expected intents, sorted by name
  std::optional<ConfusionMatrix> confusion;
  std::optional<Estimate> slot_f1;         // pairs of all rows together (micro average); absent without slots
  std::optional<ClassScore> out_of_scope;  // out-of-scope rows as one class: an answer is of it if its intent is one
                                           // that some out-of-scope row expects; absent without such rows
  Named<Part> slices, languages;           // rows that name one, in the order of first appearance
  std::optional<Part> without_leaks;       // all rows but the leaked ones; absent if none of them is here, or no other
  int64_t leaked = 0;                      // rows left out there
};

struct SummaryOptions {
  BootstrapOptions bootstrap = {};
  std::unordered_set<std::string> leaked_ids = {};  // rows that training may have seen
};

/// @throws Error{Internal} for no rows. Cost O(bootstrap.resamples * rows).
Summary summarize(std::span<const RowScore> rows, const SummaryOptions& options = {});

/// The exact matches of `system` against those of `reference` on the ids that both have (in the system's order).
/// @throws Error{Internal} if the reference has an id twice.
Comparison compare(std::string reference_name, std::span<const RowScore> reference, std::span<const RowScore> system);

}  // namespace slmi::metrics
