// The trade-off table: models x formats x devices x threads, each cell measured in a process of its own, each format
// beside the roof that bytes and operations set it on this machine.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "slmi/eval/evaluate.h"
#include "slmi/report/study.h"

namespace slmi::study {

/// How a format comes about: by merging into plain weights, or by one of the quantizers.
enum class Maker { Merge, Nf4, Gptq, Gguf };

/// "f32", "f16", "bf16": a Hugging Face directory of that type; "nf4"; "gptq"; or a GGUF file type ("Q4_K_M").
struct Format {
  std::string name;
  Maker maker = Maker::Merge;
};
/// @throws Error{Usage} that lists the known names.
Format parse_format(const std::string& name);

/// One model in one format on one device.
struct Cell {
  size_t model = 0;  // of StudyOptions::models
  Format format;
  std::string device;  // "cpu", "cuda"
  int64_t threads = 1;
  /// A file name: "quickstart-Q4_K_M-cpu-2".
  std::string id(const std::string& model_name) const;
};

/// A file or directory that some format is written to.
struct Artefact {
  eval::NamedPath model;  // what it is made of
  Format format;
  std::filesystem::path path;  // where it is wanted
};

struct StudyOptions {
  std::vector<eval::NamedPath> models;
  std::string base;  // of adapters; empty: what each names
  std::vector<std::string> formats, devices;
  std::vector<int64_t> threads;
  eval::RowSource rows;
  eval::MeasureOptions measure;
  uint64_t seed = 0;                  // of the bootstrap
  double price_per_hour = 0.0;        // of the machine; 0: no costs
  std::vector<std::string> hardware;  // names for ceilings::find_hardware: predictions
  std::filesystem::path out;
  bool retry = false;  // cells that could not run are tried again
  /// Whatever the artefacts depend on beside the model's files (calibration, group size, ...): they are made again if
  /// it changes.
  Json artefact_settings;
  std::string command_line;
  std::vector<std::string> worker_command;  // program and arguments that end in a worker's job file
  const std::atomic<int>* signal = nullptr;
  std::function<void(const std::string&)> note;  // a line for the user; may be empty
  std::function<void(const Artefact&)> make;     // writes the artefact, whole or not at all
  std::function<model::OpenOptions(const Format&, const std::string& device)> open;  // how a cell is opened
};

/// All cells, in the order in which they are measured: by model, device, threads, format. On a GPU the number of
/// threads is not varied. @throws Error{Usage} for unknown formats or devices, or one of them given twice.
std::vector<Cell> plan(const StudyOptions& options);

/// The cell that the others of its model, device and threads are held against: f16, else bf16, else f32; none: -1.
int64_t reference_of(const std::vector<Cell>& cells, size_t cell);

/// Makes what is missing of the artefacts, measures what is missing of the cells, and writes
/// OUT/study.{json,md,csv,html}. Artefacts stay in OUT/artefacts, results in OUT/cells, a file each: a study that was
/// stopped goes on, and a cell is measured again only if the program, its model's files, the rows or the settings
/// changed. A cell that fails keeps its error in the table, and the others run.
/// @throws Error{Interrupted|Terminated} on a signal; Error{Usage|Input} for options or rows that are wrong;
/// Error{Output}.
report::StudyReport run_study(const StudyOptions& options);

}  // namespace slmi::study
