// Progress and errors of quantizing layer by layer; see the header.
#include "quantize_groups.h"

#include <algorithm>
#include <csignal>
#include <iostream>

#include "slmi/base/error.h"
#include "slmi/eval/memory.h"

namespace slmi::cli {

GroupProgress::GroupProgress(Runtime& rt, const std::string& on_stop, PeakMemory& memory,
                             calib::LayerOptions& options) {
  options.on_module = [this, &rt](const calib::ModuleReport& report) {
    last_ = fmt::format("layer {} {} error {:.4f}", report.layer, report.module, report.error);
    if (report.damp_raises > 0)
      rt.err << fmt::format("\nlayer {} {}: Hessian not positive definite; damping raised to {:g}\n", report.layer,
                            report.module, report.damp);
  };
  options.progress = [this, &rt, &memory, on_stop](int64_t done, int64_t total) {
    memory.sample();
    if (rt.signal != 0)
      fail(rt.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated, "stopped; {}", on_stop);
    if (!progress_) progress_.emplace("gptq", "groups", total);
    progress_->update(done, last_);
  };
}

void GroupProgress::finish() {
  if (progress_) progress_->finish();
}

void print_errors(const std::vector<calib::ModuleReport>& modules, const std::string& where, Runtime& rt) {
  double error = 0, nearest = 0;
  const calib::ModuleReport* worst = nullptr;
  int64_t raised = 0;
  for (const auto& m : modules) {
    error += m.error;
    nearest += m.nearest_error;
    raised += m.damp_raises > 0 ? 1 : 0;
    if (worst == nullptr || m.error > worst->error) worst = &m;
  }
  if (worst == nullptr) return;
  const auto count = static_cast<double>(modules.size());
  rt.out << fmt::format(
      "relative error of their outputs: mean {:.4f} (round-to-nearest {:.4f}), largest {:.4f} (layer {} {}); all in "
      "{}\n",
      error / count, nearest / count, worst->error, worst->layer, worst->module, where);
  if (raised > 0)
    rt.out << fmt::format("damping was raised for {} matrices, whose Hessian was not positive definite before\n",
                          raised);
}

void PeakMemory::sample() {
  anonymous_ = std::max(anonymous_, eval::memory_use(at::kCPU).rss_anon.value_or(0));
}

void PeakMemory::print(at::Device device, Runtime& rt) {
  sample();
  const eval::MemoryUse memory = eval::memory_use(device);
  if (!memory.rss_peak) return;
  rt.out << fmt::format("peak memory: {}, with the pages of mapped files {}", format_bytes(anonymous_),
                        format_bytes(*memory.rss_peak));
  if (memory.vram_allocator) rt.out << fmt::format(", on the GPU {}", format_bytes(*memory.vram_allocator));
  rt.out << "\n";
}

}  // namespace slmi::cli
