// slmi bench: what this machine can do, for the figures that other commands print to be held against.
#include <csignal>
#include <iostream>
#include <optional>

#include "commands.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/ceilings/ceilings.h"
#include "slmi/config/command_line.h"
#include "slmi/config/config.h"
#include "slmi/report/table.h"
#include "slmi/report/writers.h"

namespace slmi::cli {
namespace {

struct CeilingsConfig {
  std::string device = "auto";
  int64_t threads = 0;
  std::string out;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = CeilingsConfig;
    field("device", &T::device, OneOf{"auto", "cpu", "cuda"}, "What is measured");
    field("threads", &T::threads, AtLeast{0}, "CPU threads (0: all)");
    field("out", &T::out, Metavar{"FILE.json"}, Synonyms{"output", "json"}, "Write the figures there as well");
  }
};

std::string threads_text(int64_t threads) {
  return fmt::format("{} thread{}", threads, threads == 1 ? "" : "s");
}

report::Table table_of(const ceilings::Ceilings& found) {
  report::Table table({{"ceiling"}, {"", report::Align::Right}});
  const auto add = [&](const std::string& what, double value, const char* unit) {
    table.add_row({what, fmt::format("{:.{}f} {}", value, value < 100 ? 1 : 0, unit)});
  };
  if (found.threads == 0) {
    add("memory, copying: read + written", found.read_gb_per_s, "GB/s");
  } else {
    if (found.threads > 1 && found.read_gb_per_s_one_thread)
      add("memory, reading, 1 thread", *found.read_gb_per_s_one_thread, "GB/s");
    add("memory, reading, " + threads_text(found.threads), found.read_gb_per_s, "GB/s");
  }
  for (const auto& rate : ceilings::kRates)
    if (const auto& value = found.*rate.gflops) add(fmt::format("matrix products, {}", rate.name), *value, "GFLOP/s");
  return table;
}

void run_ceilings(const CeilingsConfig& config, Runtime& rt) {
  choose_threads(config.threads);
  std::optional<AtomicFile> file;  // opened first: a place that cannot be written is known at once
  if (!config.out.empty()) file.emplace(config.out);
  const auto found = ceilings::measure_ceilings(choose_device(config.device), [&rt](const std::string& what) {
    if (rt.signal != 0)
      fail(rt.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated, "stopped; nothing was written");
    rt.err << what << "\n" << std::flush;
  });
  if (file) {
    file->write(ceilings::to_json(found).dump(2) + "\n");
    file->commit();
  }
  rt.out << (found.processor.empty() ? "unknown processor" : found.processor) << ", "
         << (found.threads > 0 ? threads_text(found.threads) : found.device) << "\n\n"
         << table_of(found).text(report::terminal_width()) << std::flush;
}

void add_ceilings(CLI::App& bench, Runtime& rt) {
  CLI::App& command = config::add_command(bench, "ceilings", "Memory bandwidth and matrix rates that no model can pass",
                                          "slmi bench ceilings --device cpu --out ceilings.json");
  auto binding = config::bind<CeilingsConfig>(command);
  config::set_action(command, [binding, &rt] { run_ceilings(binding->resolve(), rt); });
}

}  // namespace

void add_bench(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(
      app, "bench", "Measure this machine: ceilings that other figures are held against, kernels, and training",
      "slmi bench ceilings --device cpu");
  config::require_subcommand(command);
  add_ceilings(command, rt);
  add_bench_kernels(command, rt);
  add_bench_train(command, rt);
}

}  // namespace slmi::cli
