// What a study found: models x formats x devices x threads, one cell each, as plain data; and its texts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/report/report.h"
#include "slmi/report/table.h"

namespace slmi::report {

/// The least time that bytes and operations allow on a machine; milliseconds.
struct RoofReport {
  double ttft = 0, tpot = 0, e2e = 0;
  std::string prefill_bound, decode_bound;  // "memory" or "matrix products"
};

/// One model in one format on one device with one number of threads.
struct StudyCell {
  std::string model, format, device;
  int64_t threads = 0;
  std::string problem;                // why it could not run; empty: it ran
  std::optional<ModelReport> run;     // absent if it could not run
  std::optional<int64_t> file_bytes;  // of the weights on disk
  // Of a timed request, means; what a prefix cache held is not in it.
  std::optional<double> prompt_tokens, answer_tokens;
  std::optional<double> cost_per_million;  // requests at the fastest batch size, in the price's currency
  std::optional<RoofReport> roof;
};

/// What the roof says of hardware that is not here. Never measured.
struct StudyPrediction {
  std::string model, format, hardware;
  std::string problem;                    // "does not fit 16 GB"; empty: it fits
  std::optional<double> ttft, tpot, e2e;  // milliseconds at batch 1
};

/// Measured ceilings of a device.
struct CeilingReport {
  std::string device;
  int64_t threads = 0;
  double read_gb_per_s = 0;
  std::optional<double> f32_gflops, bf16_gflops, f16_gflops;
};

struct StudyReport {
  std::string title = "slmi study";
  std::string command, date;  // ISO 8601, UTC
  Machine machine;
  Build build;
  std::vector<DataFile> data;
  std::optional<double> price_per_hour;
  std::vector<CeilingReport> ceilings;
  std::vector<StudyCell> cells;
  std::vector<StudyPrediction> predictions;
  std::vector<std::string> notes;
};

Json to_json(const StudyReport& report);

/// The table of cells: quality and its paired difference, size, time, the roof beside it.
Table study_table(const StudyReport& report);
/// Formats down, hardware across; empty without predictions.
Table predictions_table(const StudyReport& report);

std::string to_terminal(const StudyReport& report, int width);
std::string to_markdown(const StudyReport& report);
/// One line a cell, plain numbers; RFC 4180.
std::string to_csv(const StudyReport& report);
std::string to_html(const StudyReport& report);

/// Writes study.json, study.md, study.csv and study.html into `directory`, each atomically. @throws Error{Output}.
void write_study(const StudyReport& report, const std::filesystem::path& directory);

}  // namespace slmi::report
