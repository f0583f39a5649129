// Kernel times through libtorch's profiler; see the header.
#include "slmi/ops/kernel_trace.h"

#include <algorithm>
#include <functional>
#include <map>

#include "slmi/base/error.h"

#ifdef SLMI_WITH_CUDA
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/autograd/profiler_kineto.h>

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

std::vector<KernelLaunch> KernelTrace::stop() {
  c10::cuda::device_synchronize();
  const auto result = profiler::disableProfiler();
  running_ = false;
  std::vector<KernelLaunch> out;
  for (const auto& event : result->events())
    if (event.deviceType() == c10::DeviceType::CUDA)
      out.push_back({event.name(), event.startNs(), event.startNs() + event.durationNs()});
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
std::vector<KernelLaunch> KernelTrace::stop() {
  return {};
}
KernelTrace::~KernelTrace() = default;

}  // namespace slmi::ops
#endif

namespace slmi::ops {

std::vector<KernelTime> by_kernel(std::vector<KernelLaunch> launches) {
  std::ranges::stable_sort(launches, {}, &KernelLaunch::begin_ns);
  std::map<std::string, KernelTime> by_name;
  uint64_t busy_until = launches.empty() ? 0 : launches.front().begin_ns;
  for (const auto& launch : launches) {
    KernelTime& kernel = by_name[launch.name];
    kernel.name = launch.name;
    ++kernel.count;
    kernel.total_ms += 1e-6 * static_cast<double>(launch.end_ns - launch.begin_ns);
    if (launch.begin_ns > busy_until) kernel.idle_ms += 1e-6 * static_cast<double>(launch.begin_ns - busy_until);
    busy_until = std::max(busy_until, launch.end_ns);
  }
  std::vector<KernelTime> out;
  for (auto& [name, kernel] : by_name) out.push_back(std::move(kernel));
  std::ranges::stable_sort(out, std::greater(), &KernelTime::total_ms);
  return out;
}

}  // namespace slmi::ops
