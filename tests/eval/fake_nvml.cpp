// A stand-in for NVIDIA's management library with one GPU that uses 2.5 J from each reading to the next.
// Signatures as in nvml.h; SLMI_FAKE_NVML_STATUS is what reading the energy returns (3: not supported).
#include <cstdlib>

extern "C" {

int nvmlInit_v2() {
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  static int gpu;
  *device = &gpu;
  return index == 0 ? 0 : 2;  // NVML_ERROR_INVALID_ARGUMENT
}

int nvmlDeviceGetHandleByPciBusId_v2(const char*, void** device) {
  return nvmlDeviceGetHandleByIndex_v2(0, device);
}

int nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* millijoules) {
  static unsigned long long total = 1'000'000;
  *millijoules = total += 2500;
  const char* status = std::getenv("SLMI_FAKE_NVML_STATUS");
  return status == nullptr ? 0 : std::atoi(status);
}
}
