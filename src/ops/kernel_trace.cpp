// Kernel times through libtorch's profiler; see the header.
#include "slmi/ops/kernel_trace.h"

#include "slmi/base/error.h"

#ifdef SLMI_WITH_CUDA
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <map>

namespace slmi::ops {

namespace profiler = torch::autograd::profiler;

KernelTrace::KernelTrace() {
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  const std::set<torch::profiler::impl::ActivityType> activities = {torch::profiler::impl::ActivityType::CUDA};
  c10::cuda::device_synchronize();
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  running_ = true;
}

std::vector<KernelTime> KernelTrace::stop() {
  c10::cuda::device_synchronize();
  const auto result = profiler::disableProfiler();
  running_ = false;
  std::map<std::string, KernelTime> by_name;
  for (const auto& event : result->events()) {
    if (event.deviceType() != c10::DeviceType::CUDA) continue;
    auto& kernel = by_name[event.name()];
    kernel.name = event.name();
    ++kernel.count;
    kernel.total_ms += 1e-6 * static_cast<double>(event.durationNs());
  }
  std::vector<KernelTime> out;
  for (auto& [name, kernel] : by_name) out.push_back(std::move(kernel));
  std::stable_sort(out.begin(), out.end(),
                   [](const KernelTime& a, const KernelTime& b) { return a.total_ms > b.total_ms; });
  return out;
}

KernelTrace::~KernelTrace() {
  if (running_) profiler::disableProfiler();
}

}  // namespace slmi::ops
#else
namespace slmi::ops {

KernelTrace::KernelTrace() {
  fail(ErrorKind::Usage, "kernel times: this program was not compiled for GPUs");
}
std::vector<KernelTime> KernelTrace::stop() {
  return {};
}
KernelTrace::~KernelTrace() = default;

}  // namespace slmi::ops
#endif
