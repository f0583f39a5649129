// The few calls of the CUDA driver API (docs.nvidia.com/cuda/cuda-driver-api) that name devices.
#include "gpu_driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <fstream>

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

/// The driver's entry points; the library stays open, as it does not bear being closed.
class Driver {
 public:
  explicit Driver(void* library) : library_(library) {}

  template <class... Args>
  int call(const char* name, Args... args) const {
    void* symbol = ::dlsym(library_, name);
    if (symbol == nullptr) return kNoSymbol;
    return reinterpret_cast<int (*)(Args...)>(symbol)(args...);
  }

  std::string error_text(int code) const {
    const char *name = nullptr, *text = nullptr;
    call("cuGetErrorName", code, &name);
    call("cuGetErrorString", code, &text);
    return fmt::format("{} ({})", text != nullptr ? text : "no reason given",
                       name != nullptr ? std::string(name) : fmt::format("code {}", code));
  }

 private:
  static constexpr int kNoSymbol = 500;  // CUDA_ERROR_NOT_FOUND
  void* library_;
};

GpuDevice describe(const Driver& driver, int device) {
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
  void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    out.problem = "libcuda.so.1 is not there";
    return out;
  }
  out.found = true;
  const Driver driver(library);
  if (const int code = driver.call("cuInit", 0U); code != 0) {
    out.problem = driver.error_text(code);
    return out;
  }
  driver.call("cuDriverGetVersion", &out.cuda_version);
  int count = 0;
  if (const int code = driver.call("cuDeviceGetCount", &count); code != 0) out.problem = driver.error_text(code);
  for (int i = 0; i < count; ++i) {
    int device = 0;
    if (driver.call("cuDeviceGet", &device, i) == 0) out.devices.push_back(describe(driver, device));
  }
  return out;
}

}  // namespace slmi::cli
