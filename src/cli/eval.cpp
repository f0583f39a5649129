// slmi eval: models and rows in, a report out. No measuring or scoring here.
#include <iostream>

#include "commands.h"
#include "eval_config.h"
#include "slmi/config/command_line.h"
#include "slmi/eval/evaluate.h"
#include "slmi/eval/worker.h"
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
  options.threads = choose_threads(config.model.threads);
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

void run_eval(const EvalConfig& config, Runtime& rt) {
  const eval::EvaluateOptions options = options_of(config, rt);
  const report::EvalReport report = eval::evaluate(options);
  rt.out << report::to_terminal(report, report::terminal_width())
         << "\nreport: " << (options.out / "report.html").string() << "\n\nnext:\n  " << next_command(options, report)
         << "\n"
         << std::flush;
  eval::check_thresholds(report, options);
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
