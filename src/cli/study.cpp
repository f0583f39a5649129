// slmi study: models, formats and devices in, one table out. Artefacts are made by the code of merge and quantize.
#include "slmi/study/study.h"

#include <fstream>
#include <iostream>

#include "commands.h"
#include "quantize_config.h"
#include "slmi/base/error.h"
#include "slmi/config/command_line.h"
#include "slmi/model/merge.h"
#include "slmi/quant/gguf_mix.h"
#include "slmi/report/writers.h"
#include "stage_progress.h"
#include "study_config.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

model::MergeDtype merge_dtype(const std::string& format) {
  return format == "f32" ? model::MergeDtype::F32 : format == "f16" ? model::MergeDtype::F16 : model::MergeDtype::BF16;
}

void make_merged(const study::Artefact& artefact, const std::string& base, Runtime& rt) {
  model::OpenOptions open;
  open.base = base;
  const model::ModelFiles files = model::open_files(artefact.model.path, open);
  model::MergeOptions options;
  options.out = artefact.path;
  options.dtype = merge_dtype(artefact.format.name);
  options.command = rt.command_line;
  options.needs_adapter = false;
  StageProgress stages(rt, "run the same command again");
  options.progress = [&](int64_t done, int64_t total) { stages.update("merge", "tensors", done, total); };
  model::merge_adapter(files, options);
  stages.finish();
}

/// Writes one artefact; what the quantizers print goes into a log beside it.
void make_artefact(const study::Artefact& artefact, const StudyConfig& config, Runtime& rt) {
  if (artefact.format.maker == study::Maker::Merge) return make_merged(artefact, config.base, rt);
  std::ofstream log(artefact.path.string() + ".log");
  Runtime quiet{log, log, rt.command_line, rt.signal};
  QuantizeConfig quantize;
  quantize.model_path = artefact.model.path.string();
  quantize.out = artefact.path.string();
  quantize.model.base = config.base;
  quantize.calibration = config.calibration;
  quantize.calibration_rows = config.calibration_rows;
  quantize.gptq_flags.calibration_tokens = config.calibration_tokens;
  quantize.rows = 0;  // the study itself compares
  quantize.text_field = config.text_field;
  quantize.answer_field = config.answer_field;
  quantize.gptq_flags.group_size = config.group_size;
  switch (artefact.format.maker) {
    case study::Maker::Nf4:
      quantize.nf4 = true;
      return run_quantize_nf4(quantize, quiet);
    case study::Maker::Gptq:
      quantize.gptq = true;
      return run_quantize_gptq(quantize, quiet);
    default:
      quantize.gguf = true;
      quantize.type = artefact.format.name;
      if (!quant::uses_importances(quant::parse_file_type(quantize.type))) quantize.calibration.clear();
      return run_quantize_gguf(quantize, quiet);
  }
}

/// As it is stored; the 32-bit form also computes in 32 bits.
model::OpenOptions open_cell(const study::Format& format, const std::string& device) {
  ModelFlags flags;
  flags.device = device;
  if (format.name == "f32") flags.compute = train::ComputeChoice::F32;
  return open_options(flags);
}

study::StudyOptions options_of(const StudyConfig& config, Runtime& rt) {
  study::StudyOptions options;
  for (const auto& text : config.models) options.models.push_back(eval::parse_named_path(text));
  options.base = config.base;
  options.formats = config.formats;
  for (const auto& device : config.devices)
    options.devices.push_back(device == "auto" ? (choose_device("auto").is_cpu() ? "cpu" : "cuda") : device);
  for (const int64_t threads : config.threads) options.threads.push_back(choose_threads(threads));
  options.rows = {{config.data.begin(), config.data.end()}, config.text_field, config.answer_field, config.limit};
  options.measure = {config.eval_batch_size, config.max_new_tokens, config.latency_rows, config.latency_seconds,
                     config.batch_sizes,     config.answer_form,    config.prefix_cache};
  options.seed = static_cast<uint64_t>(config.seed);
  options.price_per_hour = config.price_per_hour;
  options.hardware = config.hardware;
  options.out = config.out;
  options.retry = config.retry;
  options.artefact_settings = {{"calibration", config.calibration},
                               {"calibration_rows", config.calibration_rows.value_or(0)},
                               {"calibration_tokens", config.calibration_tokens.value_or(0)},
                               {"group_size", config.group_size},
                               {"rounding", "gptq"}};
  options.command_line = rt.command_line;
  options.worker_command = {"/proc/self/exe", "eval", "--worker"};
  options.signal = &rt.signal;
  options.note = [&rt](const std::string& line) { rt.err << line << "\n" << std::flush; };
  options.make = [&config, &rt](const study::Artefact& artefact) { make_artefact(artefact, config, rt); };
  options.open = open_cell;
  return options;
}

void print_plan(const study::StudyOptions& options, Runtime& rt) {
  const auto names = eval::assign_names(options.models);
  const auto cells = study::plan(options);
  const auto rows = eval::read_source(options.rows, "").rows.size();
  rt.out << fmt::format("{} cells on {} rows, into {}\n", cells.size(), rows, options.out.string());
  for (const auto& cell : cells) rt.out << "  " << cell.id(names[cell.model].name) << "\n";
}

void run_study(const StudyConfig& config, Runtime& rt) {
  const study::StudyOptions options = options_of(config, rt);
  if (config.dry_run) return print_plan(options, rt);
  const report::StudyReport report = study::run_study(options);
  const std::string html = (options.out / "study.html").string();
  rt.out << report::to_terminal(report, report::terminal_width()) << "\nreport: " << html << "\n" << std::flush;
}

}  // namespace

void add_study(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(
      app, "study", "Measure every format of a model on this machine: one table",
      "slmi study --config configs/study.json --model build/quickstart/run --data data/snips/test.jsonl "
      "--out study");
  auto binding = config::bind<StudyConfig>(command);
  config::set_action(command, [binding, &rt] { run_study(binding->resolve(), rt); });
}

}  // namespace slmi::cli
