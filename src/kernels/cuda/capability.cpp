// The compute capability; see the header.
#include "slmi/kernels/cuda/capability.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <vector>

#include "slmi/base/error.h"

namespace slmi::kernels::cuda {
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  const cudaError_t error = cudaDeviceGetAttribute(&value, which, device);
  require(error == cudaSuccess, ErrorKind::Device, "GPU {}: its compute capability cannot be read: {}", device,
          cudaGetErrorString(error));
  return value;
}

/// The greatest that SLMI_FORCE_SM allows.
int allowed() {
  const char* forced = std::getenv("SLMI_FORCE_SM");
  if (forced == nullptr || *forced == '\0') return std::numeric_limits<int>::max();
  const std::string_view text = forced;
  int out = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  require(code == std::errc() && end == text.data() + text.size(), ErrorKind::Usage,
          "SLMI_FORCE_SM={}: want a compute capability, such as 75 for sm_75", text);
  return out;
}

std::vector<int> of_all_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  require(error == cudaSuccess, ErrorKind::Device, "no GPU can be used: {}", cudaGetErrorString(error));
  std::vector<int> out;
  for (int device = 0; device < count; ++device)
    out.push_back(std::min(allowed(), 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                                          attribute(cudaDevAttrComputeCapabilityMinor, device)));
  return out;
}

}  // namespace

int compute_capability(int device) {
  static const std::vector<int> all = of_all_devices();
  if (device < 0) cudaGetDevice(&device);
  return all.at(static_cast<size_t>(device));
}

}  // namespace slmi::kernels::cuda
