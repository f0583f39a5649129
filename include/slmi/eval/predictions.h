// Answers of any system as JSONL: read to be scored, written with the verdict on each.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "slmi/data/row.h"
#include "slmi/eval/model_run.h"

namespace slmi::eval {

/// The answers of one system to some or all rows, in the rows' order.
struct Predictions {
  std::vector<RowAnswer> answers;
  int64_t unknown = 0;  // lines for rows that are not evaluated here
};

/// Lines {"id": ..., "answer": ...}: the id is a string or integer, the answer a string, or an object or array that is
/// written out as text. Optional: log_probability. If lines carry `model` and one of them is `name`, only that model's
/// lines count, so that a predictions.jsonl of an earlier evaluation can be read.
/// @throws Error{Input} "file:line: what" for broken lines, an id twice, no answer; and if no line is about a row of
/// `set`.
Predictions read_predictions(const std::filesystem::path& file, const std::string& name, const data::RowSet& set);

/// One system's lines: id, model, answer, expected, match; log_probability and complete where known.
struct Scored {
  std::string model;
  std::span<const RowAnswer> answers;
  std::span<const int64_t> rows;  // [answers] row of each
  std::vector<bool> match;        // [answers]
};
/// Writes all systems' lines atomically. @throws Error{Output}.
void write_predictions(const std::filesystem::path& file, const data::RowSet& set, std::span<const Scored> systems);

}  // namespace slmi::eval
