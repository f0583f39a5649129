// slmi train: rows and a base in, a run directory out. No training logic here.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>
#include <iostream>

#include "commands.h"
#include "ranks.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/progress.h"
#include "slmi/base/version.h"
#include "slmi/ceilings/probe.h"
#include "slmi/config/command_line.h"
#include "slmi/data/row_reader.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/train/trainer.h"
#include "slmi/train/validate.h"
#include "train_preview.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;
using train::TrainConfig;

/// Files, rows and prompts of a run: all that can be checked before weights are loaded.
struct Inputs {
  model::OpenOptions options;
  model::ModelFiles files;
  data::RowSet rows, val_rows;
  data::EncodedDataset encoded, val_encoded;
  std::optional<data::AnswerForm> form;  // of the training answers
};

data::RowSet read(const std::vector<std::string>& paths, const TrainConfig& config, const std::string& system) {
  data::ReadOptions options;
  options.text_field = config.text_field;
  options.answer_field = config.answer_field;
  options.system_text = system;
  const std::vector<fs::path> list(paths.begin(), paths.end());
  return data::read_rows(list, options);
}

Inputs read_inputs(const TrainConfig& config) {
  Inputs in;
  in.options.prompt_template = config.prompt_template;
  in.options.system = config.system;
  const at::Device device = choose_device(config.device);
  const ops::Compute compute = choose_compute(config.compute, device);
  in.files = model::open_files(config.base, in.options);
  require(in.files.adapter_path.empty(), ErrorKind::Usage,
          "--base {}: an adapter; train from its base with --init-adapter {}, or merge it first", config.base,
          config.base);
  in.options.load = training_load_options(*in.files.checkpoint, config.base_format, compute, device);
  const std::string system = in.files.prompts->system_text();
  in.rows = read(config.data, config, system);
  if (config.limit > 0 && config.limit < static_cast<int64_t>(in.rows.rows.size()))
    in.rows.rows.resize(static_cast<size_t>(config.limit));
  in.form = data::learn_answer_form(in.rows.rows);
  const data::EncodeOptions encode{config.max_seq_len, config.over_long == train::OverLongRows::Skip
                                                           ? data::OverLong::Skip
                                                           : data::OverLong::Refuse};
  in.encoded = data::EncodedDataset::encode(in.rows, *in.files.prompts, encode);
  if (!config.val.empty()) {
    in.val_rows = read(config.val, config, system);
    in.val_encoded = data::EncodedDataset::encode(in.val_rows, *in.files.prompts, encode);
  }
  return in;
}

/// The resolved configuration as RUN/config.json: --resume reads it, so it keeps what the run was started with.
void write_config(const fs::path& run, const TrainConfig& config) {
  write_file_atomically(run / "config.json", config::resolved_json(config).dump(2) + "\n");
}

TrainConfig resolve(config::Binding<TrainConfig>& binding) {
  const auto resume = binding.text_of("resume");
  if (!resume) return binding.resolve();
  const fs::path saved = fs::path(*resume) / "config.json";
  require(fs::exists(saved), ErrorKind::Input, "{}: no run to resume: {} is missing", *resume, saved.string());
  TrainConfig config = binding.resolve(saved.string());
  config.out = *resume;
  return config;
}

void refuse_old_run(const TrainConfig& config) {
  if (!config.resume.empty() || train::list_checkpoints(config.out).empty()) return;
  fail(ErrorKind::Usage,
       "--out {}: holds a run already; go on with slmi train --resume {}, or choose another directory", config.out,
       config.out);
}

void print_start(const Inputs& in, const TrainConfig& config, const comm::Communicator& ranks, Runtime& rt) {
  rt.err << config::values_table(config);
  rt.err << "base      " << config.base << " (" << in.files.checkpoint->formats_text() << ")\n"
         << "prompts   " << in.files.prompts->describe().summary() << "\n"
         << "rows      " << in.encoded.size() << " training, " << in.val_encoded.size() << " validation; "
         << in.encoded.skipped().size() << " skipped as too long; " << in.encoded.num_prefixes()
         << " shared instructions\n"
         << "answers   " << (in.form ? in.form->describe() : "of no common form") << "\n"
         << "compute   " << ops::name(in.options.load.policy.compute) << " on " << in.options.load.device.str() << ", "
         << at::get_num_threads() << " threads"
         << (ranks.size() > 1 ? fmt::format(" on each of {} ranks, ", ranks.size()) : ", ")
         << fmt::format("{:.0f}", ceilings::matrix_rate_gflops(in.options.load.policy.compute, in.options.load.device))
         << " GFLOP/s in libtorch's products\n";
}

model::Lora make_lora(const Inputs& in, const TrainConfig& config) {
  const auto& device = in.options.load.device;
  const auto& model_config = in.files.checkpoint->config();
  if (!config.init_adapter.empty())
    return model::Lora::from_adapter(model_config, formats::PeftAdapter::open(config.init_adapter), device);
  model::LoraSpec spec{config.lora.rank, config.lora.alpha, config.lora.dropout, false, config.lora.targets};
  return {model_config, spec, device, static_cast<uint64_t>(config.seed)};
}

/// What a GPU had no room for, in libtorch's words, and which flags need less.
[[noreturn]] void fail_out_of_memory(const c10::OutOfMemoryError& error, const TrainConfig& config) {
  const bool keeps = config.activations != model::SavePolicy::None;
  fail(ErrorKind::Device, "{}; what needs less: --micro-tokens {} (now {}){}{}", out_of_memory_text(error),
       std::max<int64_t>(16, config.micro_tokens / 2), config.micro_tokens, keeps ? ", --activations none" : "",
       config.base_format == model::BaseFormat::NF4 ? "" : ", --base-format nf4");
}

/// An operation that has no deterministic form; other errors are thrown on.
[[noreturn]] void fail_without_order(const c10::Error& error) {
  const std::string what = error.what_without_backtrace();
  const size_t name_end = what.find(" does not have a deterministic implementation");
  if (name_end == std::string::npos) throw;
  fail(ErrorKind::Device,
       "--deterministic: libtorch's {} does not sum in a fixed order on a GPU; leave the flag out, or train with "
       "--device cpu",
       what.substr(0, name_end));
}

/// Before anything is trained or written.
void require_same_run(const Inputs& in, const TrainConfig& config, comm::Communicator& ranks) {
  if (ranks.size() == 1) return;
  std::vector<comm::Agreement> mine = {{"version", version_string()},
                                       {"base", in.files.checkpoint->content_digest()},
                                       {"training rows", digest(in.encoded)},
                                       {"validation rows", digest(in.val_encoded)}};
  add_flags(mine, config::resolved_json(config));
  comm::require_agreement(ranks, mine);
}

void train_rows(const TrainConfig& config, Runtime& process) {
  const auto ranks = join_ranks(choose_device(config.device), config.comm_timeout);
  RankRuntime printing(process, *ranks);
  Runtime& rt = printing.get();
  Inputs in = read_inputs(config);
  if (config.show_batch > 0) return show_batch(in.encoded, in.rows, *in.files.prompts, config.show_batch, rt.out);
  if (config.dry_run) return dry_run(in.encoded, *in.files.checkpoint, in.options.load, config, rt.out);
  refuse_old_run(config);
  require_same_run(in, config, *ranks);
  print_start(in, config, *ranks, rt);
  const fs::path run = config.out;
  if (ranks->first()) {
    slmi::create_directories(run);
    if (config.resume.empty()) write_config(run, config);
  }

  in.options.load.resident_weights = model::ResidentWeights::AtAttach;
  auto llama = model::Llama::load(*in.files.checkpoint, in.options.load);
  model::Lora lora = make_lora(in, config);
  lora.enable_training();
  llama->attach(lora);

  train::Hooks hooks;
  hooks.signal = &rt.signal;
  auto provenance = model::provenance_of(in.files, rt.command_line);
  if (in.form) provenance.answer_form = in.form->to_json();
  if (config.base_format == model::BaseFormat::NF4) provenance.trained_on = model::kTrainedOnNf4;
  hooks.save_adapter = [&](const fs::path& directory) {
    lora.save(directory, fs::absolute(config.base).lexically_normal().string());
    formats::write_provenance(directory, provenance);
  };
  std::optional<train::Validator> validator;
  if (in.val_encoded.size() > 0) {
    validator.emplace(llama, in.val_rows, in.val_encoded, in.files.prompts, model::stop_ids(in.files), config, *ranks);
    hooks.validate = [&](int64_t step) { return (*validator)(step); };
  }
  std::optional<Progress> progress;
  double smooth = 0.0;
  hooks.on_step = [&](const train::StepRecord& r, int64_t total) {
    if (!ranks->first()) return;
    if (!progress) progress.emplace("train", "steps", total);
    smooth = smooth == 0.0 ? r.loss : 0.95 * smooth + 0.05 * r.loss;
    progress->update(r.step, fmt::format("loss {:.4f}  lr {:.2e}  {:.0f} tok/s", smooth, r.learning_rate,
                                         static_cast<double>(r.tokens) / r.seconds));
  };
  hooks.on_validation = [&](const train::Validation& v, bool best) {
    rt.err << fmt::format("\nstep {}: validation loss {:.4f}, exact match {:.1f} % of {}{}\n", v.step, v.loss,
                          100.0 * v.exact_match, v.rows, best ? " (best)" : "");
  };
  const train::TrainResult result = train::train(*llama, lora, in.encoded, config, run, hooks, *ranks);
  if (progress) progress->finish();
  rt.out << fmt::format("trained {} steps in {} ({:.1f} rows/s, {:.0f} tokens/s), final loss {:.4f}", result.steps,
                        format_duration(result.seconds),
                        static_cast<double>(result.rows) / std::max(1e-9, result.seconds),
                        static_cast<double>(result.tokens) / std::max(1e-9, result.seconds), result.final_loss);
  if (result.best_exact_match)
    rt.out << fmt::format("; best exact match {:.1f} % at step {}", 100.0 * *result.best_exact_match, result.best_step);
  if (result.skipped_steps > 0)
    rt.out << fmt::format("; {} steps skipped, whose gradients were too large for f16", result.skipped_steps);
  rt.out << fmt::format(
      "\nadapter: {}\n\nnext:\n  slmi eval --model base={} --model tuned={} --data TEST.jsonl --out {}\n",
      (run / "adapter").string(), config.base, config.out, (run / "eval").string());
}

void run_train(const TrainConfig& config, Runtime& rt) {
  choose_threads(threads_of_rank(config.threads));
  try {
    train_rows(config, rt);
  } catch (const c10::OutOfMemoryError& error) {
    fail_out_of_memory(error, config);
  } catch (const c10::Error& error) {
    fail_without_order(error);
  }
}

}  // namespace

void add_train(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(
      app, "train", "Fine-tune a model on intent rows (LoRA, QLoRA)",
      "slmi train --base model.gguf --data data/snips/train.jsonl --val data/snips/val.jsonl --out run");
  auto binding = config::bind<TrainConfig>(command);
  config::set_action(command, [binding, &rt] { run_train(resolve(*binding), rt); });
}

}  // namespace slmi::cli
