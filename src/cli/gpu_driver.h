// GPUs as NVIDIA's driver sees them, in builds with and without CUDA: the driver library is opened by name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace slmi::cli {

struct GpuDevice {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  uint64_t memory_bytes = 0;
};

struct GpuDriver {
  bool on_bus = false;   // a PCI display or 3D device of NVIDIA's
  bool found = false;    // libcuda.so.1 could be opened
  std::string problem;   // why the driver cannot be used, in its own words; empty: it can
  int cuda_version = 0;  // newest CUDA that it runs: 1000 * major + 10 * minor
  std::vector<GpuDevice> devices;
};

/// Asks the driver (CUDA driver API: cuInit, cuDeviceGet...). Makes no context and takes no GPU memory.
GpuDriver look_for_gpus();

}  // namespace slmi::cli
