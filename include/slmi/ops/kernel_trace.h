// Which kernels a GPU ran, for how long, and when it did nothing: libtorch's own profiler (Kineto over CUPTI).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "slmi/ops/tensor.h"

namespace slmi::ops {

struct KernelLaunch {
  std::string name;  // demangled
  uint64_t begin_ns = 0, end_ns = 0;
};

/// All launches of one kernel.
struct KernelTime {
  std::string name;
  int64_t count = 0;
  double total_ms = 0.0;  // of each; some may run beside each other
  double idle_ms = 0.0;   // that the GPU did nothing right before one of them began, and had done something before
};

/// Longest in total first.
std::vector<KernelTime> by_kernel(std::vector<KernelLaunch> launches);

/// From construction to stop(), recorded graphs included. One at a time in a process.
class KernelTrace {
 public:
  /// @throws Error{Usage} in a program that was not compiled for GPUs.
  KernelTrace();
  ~KernelTrace();
  KernelTrace(const KernelTrace&) = delete;
  KernelTrace& operator=(const KernelTrace&) = delete;
  /// Waits for the GPU. Copies and fills of memory are among the kernels.
  std::vector<KernelLaunch> stop();

 private:
  bool running_ = false;
};

}  // namespace slmi::ops
