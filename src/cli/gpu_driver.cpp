// The few calls of the CUDA driver API (docs.nvidia.com/cuda/cuda-driver-api) that name devices.
#include "gpu_driver.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "slmi/base/dynamic_library.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

/// Class 0x03xxxx (display) or 0x12xxxx (accelerator) of vendor 0x10de.
bool nvidia_on_bus() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/sys/bus/pci/devices", error)) {
    std::string vendor, kind;
    std::ifstream(entry.path() / "vendor") >> vendor;
    std::ifstream(entry.path() / "class") >> kind;
    if (vendor == "0x10de" && (kind.starts_with("0x03") || kind.starts_with("0x12"))) return true;
  }
  return false;
}

/// A status of the driver in its own words.
std::string error_text(const DynamicLibrary& driver, int code) {
  if (code == DynamicLibrary::kNoFunction) return "libcuda.so.1 lacks a function of the driver API";
  const char *name = nullptr, *text = nullptr;
  driver.call("cuGetErrorName", code, &name);
  driver.call("cuGetErrorString", code, &text);
  return fmt::format("{} ({})", text != nullptr ? text : "no reason given",
                     name != nullptr ? std::string(name) : fmt::format("code {}", code));
}

GpuDevice describe(const DynamicLibrary& driver, int device) {
  constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
  GpuDevice out;
  std::array<char, 256> name{};
  if (driver.call("cuDeviceGetName", name.data(), static_cast<int>(name.size()), device) == 0) out.name = name.data();
  driver.call("cuDeviceGetAttribute", &out.major, kMajor, device);
  driver.call("cuDeviceGetAttribute", &out.minor, kMinor, device);
  size_t bytes = 0;
  if (driver.call("cuDeviceTotalMem_v2", &bytes, device) == 0) out.memory_bytes = bytes;
  return out;
}

}  // namespace

GpuDriver look_for_gpus() {
  GpuDriver out;
  out.on_bus = nvidia_on_bus();
  const DynamicLibrary driver("libcuda.so.1");
  if (!driver.found()) {
    out.problem = "libcuda.so.1 is not there";
    return out;
  }
  out.found = true;
  if (const int code = driver.call("cuInit", 0U); code != 0) {
    out.problem = error_text(driver, code);
    return out;
  }
  driver.call("cuDriverGetVersion", &out.cuda_version);
  int count = 0;
  if (const int code = driver.call("cuDeviceGetCount", &count); code != 0) out.problem = error_text(driver, code);
  for (int i = 0; i < count; ++i) {
    int device = 0;
    if (driver.call("cuDeviceGet", &device, i) == 0) out.devices.push_back(describe(driver, device));
  }
  return out;
}

}  // namespace slmi::cli
