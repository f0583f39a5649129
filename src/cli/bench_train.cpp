// slmi bench train: how fast a base trains on this machine, on rows of given lengths.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <optional>
#include <ostream>

#include "commands.h"
#include "ranks.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/clock.h"
#include "slmi/base/error.h"
#include "slmi/base/random.h"
#include "slmi/base/scratch_directory.h"
#include "slmi/ceilings/probe.h"
#include "slmi/config/command_line.h"
#include "slmi/config/config.h"
#include "slmi/data/packing.h"
#include "slmi/eval/memory.h"
#include "slmi/metrics/statistics.h"
#include "slmi/ops/kernel_trace.h"
#include "slmi/report/table.h"
#include "slmi/report/writers.h"
#include "slmi/train/trainer.h"
#include "train_preview.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

struct BenchTrainConfig {
  std::string base;
  int64_t rows = 8, row_tokens = 512, shortest_tokens = 0, shared_tokens = 0, target_tokens = 0;
  int64_t steps = 16, warmup_steps = 4;
  int64_t rank = 16, micro_tokens = 8192;
  model::BaseFormat base_format = model::BaseFormat::NF4;
  train::ComputeChoice compute = train::ComputeChoice::Auto;
  model::SavePolicy activations = model::SavePolicy::All;
  ops::MomentBits optimizer = ops::MomentBits::F32;
  bool cuda_graphs = true;
  std::string device = "auto";
  int64_t threads = 0;
  double comm_timeout = 60.0;
  std::string out, kernels;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = BenchTrainConfig;
    field("base", &T::base, Required{}, Metavar{"MODEL"},
          "The model to train on: a Hugging Face directory or a GGUF file");
    field("rows", &T::rows, AtLeast{1}, "Rows of a step, on each rank where there are several");
    field("row_tokens", &T::row_tokens, AtLeast{2}, "Tokens of the longest row, shared ones included");
    field("shortest_tokens", &T::shortest_tokens, AtLeast{0}, "Tokens of the shortest row (0: all are equally long)");
    field("shared_tokens", &T::shared_tokens, AtLeast{0}, "Tokens that all rows begin with: an instruction");
    field("target_tokens", &T::target_tokens, AtLeast{0}, "Tokens of a row that are targets (0: all but the first)");
    field("steps", &T::steps, AtLeast{1}, "Steps that count");
    field("warmup_steps", &T::warmup_steps, AtLeast{0}, "Steps before them");
    field("rank", &T::rank, Range{1, 256}, "Rank of the adapters, on all seven projections");
    field("micro_tokens", &T::micro_tokens, AtLeast{16}, "Tokens computed at once");
    field("base_format", &T::base_format, train::base_formats(),
          "How the frozen base is held; nf4 is QLoRA, stored keeps a GGUF file's blocks");
    field("compute", &T::compute, train::compute_choices(), "Type of the products");
    field("activations", &T::activations, train::save_policies(),
          "Activations kept for the backward pass; none is full checkpointing");
    field("optimizer", &T::optimizer, train::optimizers(), "AdamW with moments in f32 or in 8 bits");
    field("cuda_graphs", &T::cuda_graphs, "On a GPU, record passes that recur and replay them");
    field("device", &T::device, OneOf{"auto", "cpu", "cuda"}, "Where to train");
    field("threads", &T::threads, AtLeast{0}, "CPU threads (0: all)");
    field("comm_timeout", &T::comm_timeout, Above{0}, Metavar{"SECONDS"}, train::kCommTimeoutHelp);
    field("out", &T::out, Metavar{"FILE.json"}, Synonyms{"output", "json"}, "Write the figures there as well");
    field("kernels", &T::kernels, Metavar{"FILE.csv"},
          "Write there which kernels a step runs on the GPU, how long, and when it does nothing");
  }

  void check(std::vector<std::string>& problems) const {
    const int64_t shortest = shortest_tokens > 0 ? shortest_tokens : row_tokens;
    if (shortest > row_tokens) problems.push_back("shortest_tokens is more than row_tokens");
    if (shared_tokens + std::max<int64_t>(target_tokens, 1) + 1 > shortest)
      problems.push_back("the shortest row has no room for shared tokens, one of its own, and targets");
  }
};

/// Random tokens.
data::EncodedDataset random_rows(const BenchTrainConfig& config, int64_t count, int64_t vocabulary) {
  Random random(1);
  const auto token = [&] { return static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))); };
  std::vector<int32_t> shared;
  for (int64_t i = 0; i < config.shared_tokens; ++i) shared.push_back(token());
  const int64_t shortest = config.shortest_tokens > 0 ? config.shortest_tokens : config.row_tokens;
  std::vector<data::EncodedDataset::Encoded> rows;
  for (int64_t i = 0; i < count; ++i) {
    const auto length =
        shortest + static_cast<int64_t>(random.below(static_cast<uint64_t>(config.row_tokens - shortest + 1)));
    data::EncodedDataset::Encoded row;
    row.ids = shared;
    while (static_cast<int64_t>(row.ids.size()) < length) row.ids.push_back(token());
    row.instruction_len = config.shared_tokens;
    row.target_begin = config.target_tokens > 0 ? length - config.target_tokens : config.shared_tokens + 1;
    rows.push_back(std::move(row));
  }
  return data::EncodedDataset::from_ids(std::move(rows), {.max_seq_len = config.row_tokens});
}

train::TrainConfig train_config(const BenchTrainConfig& config) {
  train::TrainConfig out;
  out.lora.rank = config.rank;
  out.lora.alpha = 2.0 * static_cast<double>(config.rank);
  out.lr = 1e-4;
  out.batch_size = config.rows;
  out.micro_tokens = config.micro_tokens;
  out.max_seq_len = config.row_tokens;
  out.base_format = config.base_format;
  out.compute = config.compute;
  out.activations = config.activations;
  out.optimizer = config.optimizer;
  out.cuda_graphs = config.cuda_graphs;
  out.checkpoint_every = 0;
  return out;
}

/// Some steps more, looked at kernel by kernel on all ranks, so that none is late for the others; the first writes down
/// its own.
class StepTrace {
 public:
  static constexpr int64_t kSteps = 5;

  StepTrace() = default;
  StepTrace(const std::string& path, bool here) : wanted_(!path.empty()) {
    if (wanted_ && here) file_.emplace(path);
  }
  bool wanted() const { return wanted_; }
  void start() { trace_.emplace(); }
  void finish() {
    const auto kernels = ops::by_kernel(trace_->stop());
    if (!file_) return;
    std::string text = "ms,launches,idle_before_ms,kernel\n";
    constexpr double kMean = 1.0 / kSteps;
    for (const auto& kernel : kernels)
      text += fmt::format("{:.4f},{:g},{:.4f},\"{}\"\n", kMean * kernel.total_ms,
                          kMean * static_cast<double>(kernel.count), kMean * kernel.idle_ms, kernel.name);
    file_->write(text);
    file_->commit();
  }

 private:
  bool wanted_ = false;
  std::optional<AtomicFile> file_;
  std::optional<ops::KernelTrace> trace_;
};

/// What steps took, and had in them, over all ranks.
struct Steps {
  std::vector<double> seconds;
  int64_t real = 0, computed = 0, targets = 0, rows = 0;
  double median_s() const { return metrics::quantile(seconds, 0.5); }
};

/// Trains for the warm-up and `config.steps` steps, and some more if `trace` wants them.
Steps time_steps(const BenchTrainConfig& config, model::Llama& llama, model::Lora& lora, comm::Communicator& ranks,
                 StepTrace& trace, Runtime& rt) {
  const int64_t timed = config.warmup_steps + config.steps;
  const int64_t rows_a_step = config.rows * ranks.size();
  const int64_t total = timed + (trace.wanted() ? StepTrace::kSteps : 0);
  const auto rows = random_rows(config, rows_a_step * total, llama.config().vocab_size);
  auto settings = train_config(config);
  settings.batch_size = rows_a_step;
  Steps out;
  train::Hooks hooks;
  hooks.signal = &rt.signal;
  hooks.save_adapter = [](const fs::path&) {};
  if (trace.wanted()) hooks.pause_after = timed;
  hooks.on_step = [&](const train::StepRecord& r, int64_t) {
    if (trace.wanted() && r.step == timed) trace.start();
    if (trace.wanted() && r.step == total) trace.finish();
    if (r.step <= config.warmup_steps || r.step > timed) return;
    out.seconds.push_back(r.seconds);
    out.computed += r.tokens;
    out.targets += r.targets;
    out.rows += r.rows;
  };
  const auto plan = data::make_plan(rows, rows_a_step, 0);
  for (int64_t s = config.warmup_steps; s < timed; ++s)
    for (const int64_t row : data::plan_step(plan, 0, s)) out.real += rows.length(row);
  const ScratchDirectory run("slmi-bench");
  train::train(llama, lora, rows, settings, run.path(), hooks, ranks);
  return out;
}

std::vector<double> milliseconds(std::vector<double> seconds) {
  for (double& s : seconds) s *= 1e3;
  return seconds;
}

/// What the other ranks cost a step.
struct Sharing {
  std::vector<std::vector<double>> alone_s;  // each rank's steps, with nobody: half of them before, half after
  double reducing_s = 0.0;                   // adding up the gradients, with nothing else to do

  std::vector<double> medians_s() const {
    std::vector<double> out;
    for (const auto& steps : alone_s) out.push_back(metrics::quantile(steps, 0.5));
    return out;
  }
  /// Of all ranks' rate against what they have alone.
  double efficiency(double step_s) const {
    double rate = 0.0;
    for (const double s : medians_s()) rate += 1.0 / s;
    return static_cast<double>(alone_s.size()) / step_s / rate;
  }
  /// A step that ends when the last rank's does, and costs nothing else: ranks that wait for each other do not have the
  /// median of each, but the slowest of every step.
  double slowest_s() const {
    std::vector<double> slowest = alone_s.front();
    for (const auto& steps : alone_s)
      for (size_t i = 0; i < slowest.size(); ++i) slowest[i] = std::max(slowest[i], steps[i]);
    return metrics::quantile(slowest, 0.5);
  }
  double not_hidden_s(double step_s) const { return std::max(0.0, step_s - slowest_s()); }
  double hidden_s(double step_s) const { return std::max(0.0, reducing_s - not_hidden_s(step_s)); }
};

/// Median of adding up the gradients.
double time_reducing(const at::Tensor& gradients, comm::Communicator& ranks) {
  constexpr int kTimes = 20;
  std::vector<double> seconds;
  for (int i = 0; i < kTimes; ++i) {
    ranks.barrier();
    ranks.synchronize();
    const double start = now_s();
    ranks.all_reduce_start(gradients);
    ranks.wait();
    ranks.synchronize();
    seconds.push_back(now_s() - start);
  }
  return metrics::quantile(seconds, 0.5);
}

/// All ranks' seconds, by rank.
std::vector<std::vector<double>> gather(const std::vector<double>& seconds, comm::Communicator& ranks) {
  std::vector<std::vector<double>> out;
  for (const auto& text : ranks.all_gather(Json(seconds).dump()))
    out.push_back(Json::parse(text).get<std::vector<double>>());
  return out;
}

void add_sharing(const Sharing& sharing, double step_s, int64_t gradient_bytes, Json& json, report::Table& table) {
  const auto ranks = static_cast<double>(sharing.alone_s.size());
  const double sent = 2.0 * (ranks - 1) / ranks * static_cast<double>(gradient_bytes);  // NCCL may choose another way
  json["ranks"] = sharing.alone_s.size();
  json["step_ms_alone"] = 1e3 * sharing.slowest_s();
  for (const auto& steps : sharing.alone_s) json["step_ms_all_alone"].push_back(milliseconds(steps));
  json["efficiency"] = sharing.efficiency(step_s);
  json["communication_ms"] = 1e3 * sharing.reducing_s;
  json["communication_hidden_ms"] = 1e3 * sharing.hidden_s(step_s);
  json["communication_not_hidden_ms"] = 1e3 * sharing.not_hidden_s(step_s);
  json["gradient_bytes"] = gradient_bytes;
  json["bytes_sent_a_rank"] = sent;
  table.add_row(
      {"ranks", fmt::format("{}, efficiency {:.1f} %", sharing.alone_s.size(), 100 * sharing.efficiency(step_s))});
  const auto medians = sharing.medians_s();
  table.add_row({"step of a rank by itself", fmt::format("{:.1f} to {:.1f} ms; the slowest of each step: {:.1f} ms",
                                                         1e3 * std::ranges::min(medians),
                                                         1e3 * std::ranges::max(medians), 1e3 * sharing.slowest_s())});
  table.add_row({"adding up gradients",
                 fmt::format("{:.2f} ms by itself; {:.2f} ms hidden, {:.2f} ms not", 1e3 * sharing.reducing_s,
                             1e3 * sharing.hidden_s(step_s), 1e3 * sharing.not_hidden_s(step_s))});
  table.add_row({"bytes a rank sends", fmt::format("{:.1f} MB a step, in a ring", sent / 1e6)});
}

void run_bench_train(const BenchTrainConfig& config, Runtime& process) {
  choose_threads(threads_of_rank(config.threads));
  const at::Device device = choose_device(config.device);
  const auto ranks = join_ranks(device, config.comm_timeout);
  RankRuntime printing(process, *ranks);
  Runtime& rt = printing.get();
  std::optional<AtomicFile> file;  // opened first: a place that cannot be written is known at once
  if (!config.out.empty() && ranks->first()) file.emplace(config.out);
  require(config.kernels.empty() || !device.is_cpu(), ErrorKind::Usage,
          "--kernels {}: kernel times are a GPU's; give --device cuda, or leave it out", config.kernels);
  const auto checkpoint = formats::Checkpoint::open(config.base);
  auto load = training_load_options(*checkpoint, config.base_format, choose_compute(config.compute, device), device);
  load.resident_weights = model::ResidentWeights::AtAttach;
  const auto& c = checkpoint->config();
  StepTrace trace(config.kernels, ranks->first());
  const auto settings = train_config(config);
  rt.err << "loading " << config.base << "\n" << std::flush;
  auto llama = model::Llama::load(*checkpoint, load);
  model::Lora lora(c, {config.rank, settings.lora.alpha, 0.0, false, settings.lora.targets}, load.device, 0);
  lora.enable_training();
  llama->attach(lora);

  std::vector<double> alone_s;
  double reducing_s = 0.0;
  const auto steps_alone = [&] {
    StepTrace none;
    return time_steps(config, *llama, lora, *comm::single_process(), none, rt).seconds;
  };
  if (ranks->connected()) {
    reducing_s = time_reducing(lora.gradients(), *ranks);  // first: NCCL connects, a pause before what is compared
    lora.gradients().zero_();
    steps_alone();  // not counted: soon after a pause a GPU has less time between its kernels, 1 % of a step
    alone_s = steps_alone();
  }
  const Steps timed = time_steps(config, *llama, lora, *ranks, trace, rt);
  std::optional<Sharing> sharing;
  if (ranks->connected()) {
    const auto after = steps_alone();  // before and after: a GPU that has been at work for a while is slower
    alone_s.insert(alone_s.end(), after.begin(), after.end());
    sharing = {gather(alone_s, *ranks), reducing_s};
  }

  const auto memory = eval::memory_use(load.device);  // before the probe below needs some
  const double step_s = timed.median_s(), steps = static_cast<double>(config.steps);
  const double operations =
      product_operations(count_weights(c), timed.computed, timed.targets) / steps / static_cast<double>(ranks->size());
  const double rate = ceilings::matrix_rate_gflops(load.policy.compute, load.device);
  const double utilisation = operations / step_s / (rate * 1e9);
  Json json = {{"base", config.base},
               {"device", load.device.str()},
               {"rows", config.rows},
               {"row_tokens", config.row_tokens},
               {"shortest_tokens", config.shortest_tokens},
               {"shared_tokens", config.shared_tokens},
               {"target_tokens", config.target_tokens},
               {"steps", config.steps},
               {"step_ms", 1e3 * step_s},
               {"step_ms_all", milliseconds(timed.seconds)},
               {"tokens_a_step", static_cast<double>(timed.real) / steps},
               {"computed_tokens_a_step", static_cast<double>(timed.computed) / steps},
               {"targets_a_step", static_cast<double>(timed.targets) / steps},
               {"tokens_per_s", static_cast<double>(timed.real) / steps / step_s},
               {"rows_per_s", static_cast<double>(timed.rows) / steps / step_s},
               {"product_tflop_a_step", operations / 1e12},
               {"matrix_gflops", rate},
               {"utilisation", utilisation}};
  report::Table table({{"training"}, {"", report::Align::Right}});
  table.add_row({"step, median", fmt::format("{:.1f} ms", 1e3 * step_s)});
  table.add_row({"tokens of the rows", fmt::format("{:.0f} a second", json["tokens_per_s"].get<double>())});
  table.add_row({"rows", fmt::format("{:.1f} a second", json["rows_per_s"].get<double>())});
  table.add_row({"tokens computed a step", fmt::format("{:.0f}", json["computed_tokens_a_step"].get<double>())});
  table.add_row({"targets a step", fmt::format("{:.0f}", json["targets_a_step"].get<double>())});
  table.add_row({"products of the base", fmt::format("{:.1f} TFLOP a step, {:.0f} % of {:.0f} TFLOP/s",
                                                     operations / 1e12, 100 * utilisation, rate / 1e3)});
  if (sharing) add_sharing(*sharing, step_s, static_cast<int64_t>(lora.gradients().nbytes()), json, table);
  const auto add_bytes = [&](const char* name, const char* key, const std::optional<int64_t>& bytes) {
    if (!bytes) return;
    json[key] = *bytes;
    table.add_row({name, fmt::format("{:.2f} GB", static_cast<double>(*bytes) / 1e9)});
  };
  add_bytes("GPU memory, allocator's peak", "vram_allocator_bytes", memory.vram_allocator);
  add_bytes("GPU memory, whole device", "vram_device_bytes", memory.vram_device);
  add_bytes("peak RSS", "rss_peak_bytes", memory.rss_peak);
  if (file) {
    file->write(json.dump(2) + "\n");
    file->commit();
  }
  rt.out << table.text(report::terminal_width()) << std::flush;
}

}  // namespace

void add_bench_train(CLI::App& bench, Runtime& rt) {
  CLI::App& command =
      config::add_command(bench, "train", "Training steps on random rows of given lengths: rate, memory, utilisation",
                          "slmi bench train --base model.gguf --rows 8 --row-tokens 64 --steps 2");
  auto binding = config::bind<BenchTrainConfig>(command);
  config::set_action(command, [binding, &rt] { run_bench_train(binding->resolve(), rt); });
}

}  // namespace slmi::cli
