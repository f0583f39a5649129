// A whole evaluation: several models and other systems on the same rows, compared, written as one report.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "slmi/comm/communicator.h"
#include "slmi/eval/measure.h"
#include "slmi/report/report.h"

namespace slmi::eval {

/// "[NAME=]PATH". @throws Error{Usage} for an empty name or path.
struct NamedPath {
  std::string name;  // empty until assign_names()
  std::filesystem::path path;
};
NamedPath parse_named_path(const std::string& text);

/// `models` with a name each, those without one named after their path, all different from each other and from
/// `others`. @throws Error{Usage} for a name given twice.
std::vector<NamedPath> assign_names(const std::vector<NamedPath>& models, const std::vector<NamedPath>& others = {});

/// "[NAME:]METRIC=VALUE".
struct Threshold {
  std::string system, metric;
  double value = 0.0;  // 0..1
};
/// @throws Error{Usage} for an unknown metric (with a suggestion) or a value that is not in 0..1.
Threshold parse_threshold(const std::string& text);

enum class Baselines { None, Auto };

struct EvaluateOptions {
  std::vector<NamedPath> models;
  std::vector<NamedPath> predictions;  // JSONL of {id, answer}; the name is required
  RowSource rows;
  model::OpenOptions open;
  MeasureOptions measure;
  int64_t threads = 1;
  int64_t seed = 0;  // of the bootstrap
  Baselines baselines = Baselines::Auto;
  /// Rows for the plain baseline; empty: those of the first run directory among the models, by its config.json.
  std::vector<std::filesystem::path> train_data;
  std::string reference;              // a system's name; empty: the first
  std::vector<Threshold> thresholds;  // see check_thresholds
  std::filesystem::path leaks;  // TSV with row ids in its first column; empty: leaks.tsv beside the data, if there
  std::filesystem::path out;    // directory
  std::vector<std::string> worker_command;  // program and arguments that end in a worker's job file
  std::string command_line;
  const std::atomic<int>* signal = nullptr;
  std::function<void(const std::string&)> note;  // a line for the user; may be empty
};

/// Runs everything and writes OUT/predictions.jsonl and OUT/report.{json,md,csv,html}, each atomically. Several ranks
/// share each model's rows; rank 0 alone reads the other systems' answers, scores, writes, and returns a report: that
/// of one process, but for times and what the machine counts.
/// @throws Error as the parts do, on all ranks as comm::on_all; a model's error names the model.
report::EvalReport evaluate(const EvaluateOptions& options, comm::Communicator& ranks = *comm::single_process());

/// @throws Error{Findings} listing every threshold not met. Without a system's name a threshold holds for all models
/// and predictions but the reference; for the reference too if it is the only one. Baselines are never held to it.
void check_thresholds(const report::EvalReport& report, const EvaluateOptions& options);

}  // namespace slmi::eval
