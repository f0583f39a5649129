// What this machine can do at most: the roofs that reports and time estimates refer to.
#pragma once

#include <functional>

#include "slmi/ops/tensor.h"

namespace slmi::ceilings {

/// The product that is timed, out[m, n] = x[m, k] * w[n, k]^T, and for how long. The defaults are large enough for a
/// CPU's peak and short enough for a start-up probe (well under a second).
struct MatrixProbe {
  int64_t m = 1024, n = 2048, k = 2048;
  int64_t products_per_wait = 1;  // so many are queued before the device is waited for
  double budget_s = 0.4;          // three waits at least
};

/// Large enough for the peak of the device: of the largest GPUs, on which the defaults are over before they are under
/// way.
MatrixProbe probe_of(at::Device device);

/// Best of several products of libtorch's, in GFLOP/s, on the current number of threads. F32 on a GPU is f32: libtorch
/// does not use TF32 unless it is told to. The probe is the device's own where none is given; `now_s` gives seconds
/// since any fixed moment; without it, a steady clock.
double matrix_rate_gflops(ops::Compute compute, at::Device device);
double matrix_rate_gflops(ops::Compute compute, at::Device device, const MatrixProbe& probe,
                          const std::function<double()>& now_s = {});

/// Read bandwidth of main memory in GB/s on the current number of threads: best of several sums over a buffer far
/// larger than the caches.
double read_bandwidth_gb_per_s();

/// Bytes read and bytes written by copies inside a GPU's memory, together, in GB/s: best of several rounds over 512 MiB
/// to 512 MiB.
double copy_bandwidth_gb_per_s(at::Device device);

}  // namespace slmi::ceilings
