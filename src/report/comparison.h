// The tables that every text form of a report shares, and how its numbers look.
#pragma once

#include <optional>
#include <string>

#include "slmi/report/report.h"
#include "slmi/report/table.h"

namespace slmi::report {

/// "66.3 %"; with bounds "66.3 % (62.7–69.7)"; absent or not finite "-".
std::string percent(std::optional<double> value);
std::string percent(const std::optional<Interval>& value);
/// Three significant digits with the unit given: "12.4 ms"; absent "-".
std::string number(std::optional<double> value, const char* unit = "");
std::string bytes(std::optional<int64_t> value);
std::string count(int64_t value);
/// "0.0312", "< 0.0001".
std::string p_value(double p);
/// `text`, or "-" for "".
std::string or_dash(const std::string& text);

enum class EmptyRows { Keep, Drop };

/// Metrics down, models across: quality, latency, throughput, memory. With Drop, without rows that no model has.
Table comparison_table(const EvalReport& report, EmptyRows empty);
/// One line a model that was held against a reference.
Table against_table(const EvalReport& report);
/// What was measured: base, weights, formats, template, hashes; models across.
Table models_table(const EvalReport& report);
/// Machine, build, seed, threads, command, data files.
Table environment_table(const EvalReport& report);
Table data_table(const EvalReport& report);

// Of one model; empty() where there is nothing to show.
Table fields_table(const ModelReport& model);
Table intents_table(const ModelReport& model);
Table parts_table(const Named<Part>& parts, const char* title);
/// The most frequent confusions, at most `limit`.
Table confused_table(const Confusion& confusion, size_t limit);
Table examples_table(const std::vector<Example>& examples, size_t limit);
Table flipped_table(const Against& against, size_t limit);

}  // namespace slmi::report
