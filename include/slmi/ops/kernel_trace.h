// Which kernels a GPU ran, and for how long: libtorch's own profiler (Kineto over CUPTI).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// All launches of one kernel.
struct KernelTime {
  std::string name;  // demangled
  int64_t count = 0;
  double total_ms = 0.0;
};

/// From construction to stop(), recorded graphs included. One at a time in a process.
class KernelTrace {
 public:
  /// @throws Error{Usage} in a program that was not compiled for GPUs.
  KernelTrace();
  ~KernelTrace();
  KernelTrace(const KernelTrace&) = delete;
  KernelTrace& operator=(const KernelTrace&) = delete;
  /// Waits for the GPU; copies and fills of memory among the kernels; longest in total first.
  std::vector<KernelTime> stop();

 private:
  bool running_ = false;
};

}  // namespace slmi::ops
