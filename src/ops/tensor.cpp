// Element types of the core.
#include "slmi/ops/tensor.h"

#ifdef SLMI_WITH_CUDA
#include <c10/cuda/CUDAFunctions.h>

#include "slmi/kernels/cuda/capability.h"
#endif

namespace slmi::ops {

at::ScalarType scalar_type(Compute compute) {
  switch (compute) {
    case Compute::F32:
      return at::kFloat;
    case Compute::BF16:
      return at::kBFloat16;
    case Compute::F16:
      return at::kHalf;
  }
  return at::kFloat;
}

std::string name(Compute compute) {
  switch (compute) {
    case Compute::F32:
      return "f32";
    case Compute::BF16:
      return "bf16";
    case Compute::F16:
      return "f16";
  }
  return "?";
}

int compute_capability([[maybe_unused]] at::Device device) {
#ifdef SLMI_WITH_CUDA
  if (!device.is_cuda()) return 0;
  return kernels::cuda::compute_capability(device.index());
#else
  return 0;
#endif
}

int64_t gpu_count() {
#ifdef SLMI_WITH_CUDA
  return c10::cuda::device_count();
#else
  return 0;
#endif
}

void make_current([[maybe_unused]] at::Device device) {
#ifdef SLMI_WITH_CUDA
  if (device.is_cuda()) c10::cuda::set_device(device.index());
#endif
}

}  // namespace slmi::ops
