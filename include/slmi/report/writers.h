// Evaluation reports as JSON, Markdown, CSV, one-file HTML and a terminal table. Byte-deterministic.
#pragma once

#include <filesystem>
#include <string>

#include "slmi/base/json.h"
#include "slmi/report/report.h"

namespace slmi::report {

/// Every field, absent ones as null. models[] keeps the names that outside checks rely on: exact_match {value, low,
/// high}; valid_json, intent_accuracy, slot_f1 plain numbers with their intervals in `intervals`; fields {NAME: x};
/// slices and languages {NAME: {n, exact_match, low, high}}; latency_ms {ttft, tpot, e2e} of {p50, p90, p95, p99}; ...
Json to_json(const EvalReport& report);
Json to_json(const ModelReport& model);

/// The inverse, for results measured in another process. @throws Error{Input} naming `source` and the key.
EvalReport report_from_json(const Json& json, const std::string& source);
ModelReport model_from_json(const Json& json, const std::string& source);

std::string to_markdown(const EvalReport& report);

/// One line a model, one column a number (dotted JSON keys); RFC 4180.
std::string to_csv(const EvalReport& report);

/// One file without outside resources or scripts: tables and inline SVG plots, light and dark, fit for printing.
/// All texts are escaped; control characters and bytes that are not UTF-8 show as U+FFFD.
std::string to_html(const EvalReport& report);

/// The comparison table, at most `width` columns wide where that is possible.
std::string to_terminal(const EvalReport& report, int width);

/// Columns of the terminal behind standard output (or COLUMNS), 100 elsewhere.
int terminal_width();

/// Writes report.json, report.md, report.csv and report.html into `directory`, each atomically.
/// @throws Error{Output}.
void write_report(const EvalReport& report, const std::filesystem::path& directory);

}  // namespace slmi::report
