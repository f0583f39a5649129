// What every file below the libtorch line includes: ATen, and the element types the core computes in.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <string>

namespace slmi::ops {

/// Element type of products and of activations between them. The residual stream is f32 in every mode.
enum class Compute { F32, BF16, F16 };

at::ScalarType scalar_type(Compute compute);
std::string name(Compute compute);

/// 90 for sm_90; 0 of a CPU. As kernels/cuda/capability.h has it.
int compute_capability(at::Device device);
/// GPUs that this process can use.
int64_t gpu_count();
/// The GPU that this thread's work without another device goes to; a CPU changes nothing.
void make_current(at::Device device);

/// Numbers a run is computed with; every report records it.
struct NumericsPolicy {
  Compute compute = Compute::F32;
  at::ScalarType kv = at::kFloat;  // element type of the KV cache
};

/// Runs body(begin, end) over [0, n) on libtorch's own thread team. Kernels of ours use it rather than base/parallel.h,
/// because two teams on the same cores fight: libtorch's workers spin for a while after each region. The partition is
/// static.
template <class Body>
void parallel(int64_t n, int64_t grain, const Body& body) {
  at::parallel_for(0, n, grain, body);
}

}  // namespace slmi::ops
