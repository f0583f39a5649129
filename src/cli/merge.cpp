// slmi merge: an adapter and its base in, a plain model directory out. No arithmetic here.
#include "slmi/model/merge.h"

#include <csignal>
#include <iostream>
#include <optional>

#include "commands.h"
#include "slmi/base/error.h"
#include "slmi/base/progress.h"
#include "slmi/config/command_line.h"

namespace slmi::cli {
namespace {

struct MergeConfig {
  std::string model_path, base, out;
  model::MergeDtype dtype = model::MergeDtype::BF16;
  model::MergeOnto onto = model::MergeOnto::Auto;
  std::string prompt_template, system, tokenizer;
  double max_shard_gb = 5.0;
  int64_t threads = 0;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = MergeConfig;
    using model::MergeDtype, model::MergeOnto;
    field("model", &T::model_path, Required{}, Metavar{"RUN|ADAPTER"}, Synonyms{"adapter", "lora"},
          "A run, or a PEFT adapter directory");
    field("base", &T::base, Metavar{"MODEL"}, DefaultText{"what the adapter names"}, "Base of the adapter");
    field("out", &T::out, Required{}, Metavar{"DIR"}, Synonyms{"output-dir", "output"},
          "Directory of the merged model, in Hugging Face's form");
    field("dtype", &T::dtype,
          Choice<MergeDtype>{{"bf16", MergeDtype::BF16}, {"f16", MergeDtype::F16}, {"f32", MergeDtype::F32}},
          Synonyms{"torch-dtype", "save-method"}, "Numbers of the merged weights; sums are made in f32");
    field("onto", &T::onto,
          Choice<MergeOnto>{{"auto", MergeOnto::Auto}, {"w16", MergeOnto::W16}, {"dequant", MergeOnto::Dequant}},
          "Base that the update is added to: the 16- or 32-bit weights, or what QLoRA training saw of them; auto takes "
          "what the adapter was trained on, and where it does not say, w16 unless the base is quantized");
    field("template", &T::prompt_template, Metavar{"NAME|FILE"}, Synonyms{"chat-template"},
          DefaultText{"the adapter's own"}, "Chat template: llama3, chatml, plain, or a JSON file");
    field("system", &T::system, Metavar{"TEXT|FILE"}, DefaultText{"the adapter's own"},
          "System turn for requests that bring none");
    field("tokenizer", &T::tokenizer, Metavar{"PATH"}, DefaultText{"the base's"}, "Vocabulary file or directory");
    field("max_shard_gb", &T::max_shard_gb, Above{0}, Synonyms{"max-shard-size"},
          "Largest weight file, in units of 10^9 bytes");
    field("threads", &T::threads, AtLeast{0}, "CPU threads (0: all)");
  }
};

void run_merge(const MergeConfig& config, Runtime& rt) {
  choose_threads(config.threads);
  model::OpenOptions open;
  open.base = config.base;
  open.prompt_template = config.prompt_template;
  open.system = config.system;
  open.tokenizer = config.tokenizer;
  const model::ModelFiles files = model::open_files(config.model_path, open);
  if (!files.note.empty()) rt.err << "note: " << files.note << "\n";

  model::MergeOptions options;
  options.out = config.out;
  options.dtype = config.dtype;
  options.onto = config.onto;
  options.tokenizer = config.tokenizer;
  options.command = rt.command_line;
  options.max_shard_bytes = static_cast<uint64_t>(config.max_shard_gb * 1e9);
  std::optional<Progress> progress;
  options.progress = [&](int64_t done, int64_t total) {
    if (rt.signal != 0)
      fail(rt.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated,
           "stopped; {} is as it was: run the same command again", config.out);
    if (!progress) progress.emplace("merge", "tensors", total);
    progress->update(done);
  };
  const model::MergeResult result = model::merge_adapter(files, options);
  if (progress) progress->finish();
  const std::string shown = shell_quoted(config.out);
  rt.out << fmt::format("merged {} of {} tensors onto {} ({}): {} of weights in {}\n", result.adapted, result.tensors,
                        result.merge_base, files.checkpoint->formats_text(), format_bytes(result.weight_bytes),
                        config.out)
         << fmt::format(
                "\nnext:\n  slmi inspect {}\n  slmi eval --model run={} --model merged={} --data TEST.jsonl --out {}\n",
                shown, shell_quoted(config.model_path), shown, shell_quoted(config.out + "-eval"));
}

}  // namespace

void add_merge(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(app, "merge", "Put an adapter into its base: a plain model directory",
                                          "slmi merge --model run --out merged");
  auto binding = config::bind<MergeConfig>(command);
  config::set_action(command, [binding, &rt] { run_merge(binding->resolve(), rt); });
}

}  // namespace slmi::cli
