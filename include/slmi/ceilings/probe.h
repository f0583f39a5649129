// What this machine can do at most: the roofs that reports and time estimates refer to.
#pragma once

#include "slmi/ops/tensor.h"

namespace slmi::ceilings {

/// Best of several products of libtorch's, in GFLOP/s, on the current number of threads: [1024, 2048] x [2048, 2048]^T,
/// a shape large enough for the peak and short enough for a start-up probe (well under a second).
double matrix_rate_gflops(ops::Compute compute, at::Device device);

/// Read bandwidth of main memory in GB/s on the current number of threads: best of several sums over a buffer far
/// larger than the caches.
double read_bandwidth_gb_per_s();

}  // namespace slmi::ceilings
