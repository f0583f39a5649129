// slmi bench kernels: each CUDA kernel of a training step alone, against the memory's bandwidth, and the linears of a
// layer against the bare products.
#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <memory>
#include <optional>
#include <ostream>

#include "commands.h"
#include "kernel_cases.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/base/machine.h"
#include "slmi/ceilings/probe.h"
#include "slmi/config/command_line.h"
#include "slmi/config/config.h"
#include "slmi/metrics/statistics.h"
#include "slmi/ops/graph.h"
#include "slmi/report/table.h"
#include "slmi/report/writers.h"

namespace slmi::cli {
namespace {

struct BenchKernelsConfig {
  std::string out;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    field("out", &BenchKernelsConfig::out, Metavar{"FILE.json"}, Synonyms{"output", "json"},
          "Write the figures there as well");
  }
};

constexpr double kLaunchUs = 2.5,
                 kBandwidthShare = 0.85;  // the budget: launch and tail, and what a kernel should reach
constexpr double kRotationBytes = 256e6;  // five times the L2 of the largest GPUs
constexpr double kGraphUs = 2000.0;       // launches a graph: waiting for it is nothing beside them
constexpr int kReplays = 5, kRounds = 9;  // replays before the GPU is waited for; rounds of them
constexpr int kLayersAGraph = 4;

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void check_signal(Runtime& rt) {
  if (rt.signal != 0)
    fail(rt.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated, "stopped; nothing was written");
}

/// Median time of each work in us, recorded as a graph and replayed. The works take turns, so that a GPU that changes
/// its clocks changes them for all.
std::vector<double> median_us(at::Device device, const std::vector<std::function<void()>>& works) {
  const c10::impl::VirtualGuardImpl gpu(device.type());
  const auto wait = [&] { gpu.synchronizeDevice(device.index()); };
  ops::GraphPool pool;
  std::vector<std::unique_ptr<ops::Graph>> graphs;
  for (const auto& work : works) {
    work();  // loads kernels and makes workspaces, which cannot be recorded
    wait();
    graphs.push_back(std::make_unique<ops::Graph>(pool, work));
    graphs.back()->replay();
  }
  std::vector<std::vector<double>> times(works.size());
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < works.size(); ++i) {
      wait();
      const double start = now_us();
      for (int r = 0; r < kReplays; ++r) graphs[i]->replay();
      wait();
      times[i].push_back((now_us() - start) / kReplays);
    }
  }
  std::vector<double> out;
  for (auto& of_work : times) out.push_back(metrics::quantile(std::move(of_work), 0.5));
  return out;
}

struct KernelFigures {
  double us = 0.0, gb_per_s = 0.0, share = 0.0, budget_us = 0.0;
  bool holds() const { return us <= budget_us; }
};

/// One kernel's launches back to back, each over other buffers than those that the L2 still holds.
KernelFigures measure(const KernelCase& kernel, double copy_gb_per_s, at::Device device) {
  const double floor_us = kernel.bytes / copy_gb_per_s / 1e3;
  const auto sets = static_cast<int64_t>(1 + std::ceil(kRotationBytes / kernel.bytes));
  const auto turns = static_cast<int64_t>(std::ceil(kGraphUs / (kLaunchUs + floor_us) / static_cast<double>(sets)));
  std::vector<Launch> launches;
  for (int64_t i = 0; i < sets; ++i) launches.push_back(kernel.make());
  const auto work = [&] {
    std::vector<at::Tensor> held;  // what is allocated lies apart until all are launched
    for (int64_t turn = 0; turn < turns; ++turn)
      for (const auto& launch : launches) held.push_back(launch());
  };
  KernelFigures out;
  out.us = median_us(device, {work}).front() / static_cast<double>(sets * turns);
  out.gb_per_s = kernel.bytes / out.us / 1e3;
  out.share = out.gb_per_s / copy_gb_per_s;
  out.budget_us = kLaunchUs + floor_us / kBandwidthShare;
  return out;
}

const char* holds_text(bool holds) {
  return holds ? "holds" : "does not";
}

Json kernels_of(double copy_gb_per_s, at::Device device, report::Table& table, Runtime& rt) {
  Json out = Json::array();
  for (const auto& kernel : kernel_cases(device)) {
    check_signal(rt);
    rt.err << kernel.name << ", " << kernel.shape << "\n" << std::flush;
    const auto f = measure(kernel, copy_gb_per_s, device);
    table.add_row({kernel.name, kernel.shape, fmt::format("{:.1f}", f.us), fmt::format("{:.1f}", kernel.bytes / 1e6),
                   fmt::format("{:.0f}", f.gb_per_s), fmt::format("{:.0f} %", 100 * f.share),
                   fmt::format("{:.1f}", f.budget_us), holds_text(f.holds())});
    out.push_back({{"kernel", kernel.name},
                   {"shape", kernel.shape},
                   {"us", f.us},
                   {"bytes", kernel.bytes},
                   {"gb_per_s", f.gb_per_s},
                   {"share_of_copy", f.share},
                   {"budget_us", f.budget_us},
                   {"holds", f.holds()}});
  }
  return out;
}

Json layer_of(at::Device device, report::Table& table, Runtime& rt) {
  check_signal(rt);
  rt.err << "linears of a layer\n" << std::flush;
  const auto cases = layer_cases(device);
  std::vector<std::function<void()>> works;
  for (const auto& c : cases)
    for (const auto* pass : {&c.forward, &c.backward})
      works.push_back([pass] {
        for (int i = 0; i < kLayersAGraph; ++i) (*pass)();
      });
  const auto us = median_us(device, works);
  const auto both = [&](size_t i) { return (us[2 * i] + us[2 * i + 1]) / kLayersAGraph; };
  Json out = Json::array();
  for (size_t i = 0; i < cases.size(); ++i) {
    const double forward = us[2 * i] / kLayersAGraph, backward = us[2 * i + 1] / kLayersAGraph, limit = cases[i].limit;
    const double over_bare = both(i) / both(0), over_stacked = both(i) / both(1);
    const bool limited = limit > 0, holds = over_bare <= limit;
    table.add_row({cases[i].name, fmt::format("{:.0f}", forward), fmt::format("{:.0f}", backward),
                   fmt::format("{:.3f}", over_bare), fmt::format("{:.3f}", over_stacked),
                   limited ? fmt::format("{:.2f}", limit) : "", limited ? holds_text(holds) : ""});
    out.push_back({{"linears", cases[i].name},
                   {"forward_us", forward},
                   {"backward_us", backward},
                   {"over_bare", over_bare},
                   {"over_bare_stacked", over_stacked},
                   {"limit", limited ? Json(limit) : Json(nullptr)},
                   {"holds", limited ? Json(holds) : Json(nullptr)}});
  }
  return out;
}

void run_bench_kernels(const BenchKernelsConfig& config, Runtime& rt) {
  require(
      at::hasCUDA(), ErrorKind::Device,
      "slmi bench kernels measures the kernels of a GPU, and none can be used here (no CUDA device, no driver, or a "
      "build without CUDA); slmi doctor says which");
  const at::Device device(at::kCUDA, 0);
  std::optional<AtomicFile> file;  // opened first: a place that cannot be written is known at once
  if (!config.out.empty()) file.emplace(config.out);
  rt.err << "memory, copying\n" << std::flush;
  const double copy_gb_per_s = ceilings::copy_bandwidth_gb_per_s(device);
  constexpr auto kRight = report::Align::Right;
  report::Table kernels({{"kernel"},
                         {"shape"},
                         {"us", kRight},
                         {"MB", kRight},
                         {"GB/s", kRight},
                         {"of copying", kRight},
                         {"budget, us", kRight},
                         {""}});
  report::Table linears({{"seven projections of a layer"},
                         {"forward, us", kRight},
                         {"backward, us", kRight},
                         {"over bare", kRight},
                         {"over bare, stacked", kRight},
                         {"limit", kRight},
                         {""}});
  const Json json = {{"device", gpu_name()},
                     {"tokens", BenchShape::kTokens},
                     {"copy_gb_per_s", copy_gb_per_s},
                     {"kernels", kernels_of(copy_gb_per_s, device, kernels, rt)},
                     {"layer", layer_of(device, linears, rt)}};
  if (file) {
    file->write(json.dump(2) + "\n");
    file->commit();
  }
  const int width = report::terminal_width();
  rt.out << fmt::format(
                "{}, copying at {:.0f} GB/s; {} tokens of Llama 3.2 1B's shape; a kernel's budget is {} us and its "
                "bytes at {} of that\n\n",
                gpu_name(), copy_gb_per_s, BenchShape::kTokens, kLaunchUs, kBandwidthShare)
         << kernels.text(width) << "\n"
         << linears.text(width) << std::flush;
}

}  // namespace

void add_bench_kernels(CLI::App& bench, Runtime& rt) {
  CLI::App& command = config::add_command(
      bench, "kernels", "Each CUDA kernel of training alone, and a layer's linears, against their floors",
      "slmi bench kernels --out kernels.json");
  auto binding = config::bind<BenchKernelsConfig>(command);
  config::set_action(command, [binding, &rt] { run_bench_kernels(binding->resolve(), rt); });
}

}  // namespace slmi::cli
