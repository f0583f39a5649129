// slmi eval: models and rows in, a report out. No measuring or scoring here.
#include <iostream>

#include "commands.h"
#include "eval_config.h"
#include "ranks.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/sha256.h"
#include "slmi/base/version.h"
#include "slmi/comm/work.h"
#include "slmi/config/command_line.h"
#include "slmi/eval/evaluate.h"
#include "slmi/eval/worker.h"
#include "slmi/kernels/cpu/simd.h"
#include "slmi/report/writers.h"
#include "stage_progress.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

/// The process that measures one model; its parent reads what it writes.
void run_worker(const std::string& job_file, Runtime& rt) {
  StageProgress stages(rt, "nothing was written");
  eval::run_worker(job_file, stages.hooks());
  stages.finish();
}

eval::EvaluateOptions options_of(const EvalConfig& config, Runtime& rt) {
  eval::EvaluateOptions options;
  for (const auto& text : config.models) options.models.push_back(eval::parse_named_path(text));
  for (const auto& text : config.predictions) options.predictions.push_back(eval::parse_named_path(text));
  for (const auto& text : config.fail_under) options.thresholds.push_back(eval::parse_threshold(text));
  options.rows = {{config.data.begin(), config.data.end()}, config.text_field, config.answer_field, config.limit};
  options.threads = choose_threads(threads_of_rank(config.model.threads));
  options.open = open_options(config.model);
  options.measure = {config.eval_batch_size, config.max_new_tokens, config.latency_rows, config.latency_seconds,
                     config.batch_sizes,     config.answer_form,    config.prefix_cache};
  options.seed = config.seed;
  options.baselines = config.baselines;
  options.train_data.assign(config.train_data.begin(), config.train_data.end());
  options.reference = config.reference;
  options.leaks = config.leaks;
  options.out = config.out;
  options.worker_command = {"/proc/self/exe", "eval", "--worker"};
  options.command_line = rt.command_line;
  options.signal = &rt.signal;
  options.note = [&rt](const std::string& line) { rt.err << line << "\n" << std::flush; };
  return options;
}

/// What one would do next: ask the best model something.
std::string next_command(const eval::EvaluateOptions& options, const report::EvalReport& report) {
  const report::ModelReport* best = nullptr;
  for (const auto& model : report.models)
    if (model.load_s && (!best || model.exact_match.value > best->exact_match.value)) best = &model;
  if (!best) return fmt::format("open {}", (options.out / "report.html").string());
  return fmt::format("slmi predict --model {} \"your request\"", shell_quoted(best->model));
}

/// SHA-256 of what a model's answers come from, beside its vocabulary and template, which show in the rows.
std::string content_of(const model::ModelFiles& files) {
  Sha256 sha;
  sha.update(files.checkpoint->content_digest());
  if (files.provenance) sha.update(files.provenance->to_json().dump());
  if (!files.adapter_path.empty())
    for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
      sha.update(MappedFile::open(files.adapter_path / name).bytes());
  return sha.hex();
}

/// By which rank 0 knows whose answers the others send: rows that bring none are called after their file.
std::string ids_of(const data::RowSet& set) {
  Sha256 sha;
  for (const auto& row : set.rows) {
    sha.update_u64(row.id.size());
    sha.update(row.id);
  }
  return sha.hex();
}

/// Of model `number` and of the rows as it sees them.
void add_model(std::vector<comm::Agreement>& to, size_t number, const eval::EvaluateOptions& options) {
  const auto files = model::open_files(options.models[number].path, options.open);
  const auto set = eval::read_source(options.rows, files.prompts->system_text());
  const data::EncodeOptions encode{files.checkpoint->config().max_position_embeddings, data::OverLong::Skip};
  to.push_back({fmt::format("model {}", number + 1), content_of(files)});
  to.push_back(
      {fmt::format("rows of model {}", number + 1), digest(data::EncodedDataset::encode(set, *files.prompts, encode))});
  to.push_back({"row ids", ids_of(set)});
}

/// Before anything is measured. Threads and vector instructions too: the last bits of an answer's log-probability go
/// with them.
void require_same_run(const EvalConfig& config, const eval::EvaluateOptions& options, comm::Communicator& ranks) {
  if (ranks.size() == 1) return;
  std::vector<comm::Agreement> mine = {{"version", version_string()},
                                       {"compute", ops::name(options.open.load.policy.compute)},
                                       {"vector instructions", kernels::cpu::name(kernels::cpu::simd())},
                                       {"threads", std::to_string(options.threads)},
                                       {"models", std::to_string(options.models.size())}};
  add_flags(mine, config::resolved_json(config));
  comm::on_all(ranks, options.signal, [&](auto) {
    for (size_t i = 0; i < options.models.size(); ++i) add_model(mine, i, options);
  });
  comm::require_agreement(ranks, mine);
}

void print(const report::EvalReport& report, const eval::EvaluateOptions& options, Runtime& rt) {
  rt.out << report::to_terminal(report, report::terminal_width())
         << "\nreport: " << (options.out / "report.html").string() << "\n\nnext:\n  " << next_command(options, report)
         << "\n"
         << std::flush;
}

void run_eval(const EvalConfig& config, Runtime& process) {
  const auto ranks = join_ranks(choose_device(config.model.device), config.comm_timeout);
  RankRuntime printing(process, *ranks);
  Runtime& rt = printing.get();
  const eval::EvaluateOptions options = options_of(config, rt);
  require_same_run(config, options, *ranks);
  const report::EvalReport report = eval::evaluate(options, *ranks);
  comm::on_first(*ranks, options.signal, [&](auto) {
    print(report, options, rt);
    eval::check_thresholds(report, options);
  });
}

}  // namespace

void add_eval(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(
      app, "eval", "Measure models on rows: accuracy, latency, memory",
      "slmi eval --model base=model.gguf --model tuned=run --data data/snips/test.jsonl --out run/eval");
  auto binding = config::bind<EvalConfig>(command);
  auto job_file = std::make_shared<std::string>();
  config::add_hidden_option(command, "--worker", *job_file);  // this program starts itself with it
  config::set_action(command, [binding, job_file, &rt] {
    if (!job_file->empty()) return run_worker(*job_file, rt);
    run_eval(binding->resolve(), rt);
  });
}

}  // namespace slmi::cli
