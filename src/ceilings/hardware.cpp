// The table of machines; see the header.
#include "slmi/ceilings/hardware.h"

#include <algorithm>
#include <array>

#include "plain_name.h"
#include "slmi/base/error.h"
#include "slmi/base/suggest.h"

namespace slmi::ceilings {
namespace {

constexpr auto kGpu = HardwareKind::Gpu;
constexpr auto kCpu = HardwareKind::Cpu;
constexpr std::nullopt_t kNone = std::nullopt;

// NVIDIA's data sheets print rates with sparsity for Ampere and later data-center GPUs; halves of them stand here.
// GeForce rates follow from the whitepapers' operations a clock and SM at the boost clock: 256 in f32, 1024 in 16 bits
// accumulated in f16 and 512 in f32, 2048 in int8.
constexpr std::array kHardware = {
    Hardware{"T4", "NVIDIA T4", kGpu, 16, 320, 8.1e3, 65e3, kNone, 130e3,
             "NVIDIA T4 data sheet (2019); Turing has no bf16"},
    Hardware{"L4", "NVIDIA L4", kGpu, 24, 300, 30.3e3, 121e3, 121e3, 242e3, "NVIDIA L4 data sheet (2023)"},
    Hardware{"A10", "NVIDIA A10", kGpu, 24, 600, 31.2e3, 125e3, 125e3, 250e3, "NVIDIA A10 data sheet (2021)"},
    Hardware{"A100 40GB", "NVIDIA A100 40GB SXM", kGpu, 40, 1555, 19.5e3, 312e3, 312e3, 624e3,
             "NVIDIA A100 data sheet (2020)"},
    Hardware{"A100 80GB", "NVIDIA A100 80GB SXM", kGpu, 80, 2039, 19.5e3, 312e3, 312e3, 624e3,
             "NVIDIA A100 data sheet (2021)"},
    Hardware{"H100", "NVIDIA H100 SXM", kGpu, 80, 3350, 67e3, 989.5e3, 989.5e3, 1979e3,
             "NVIDIA H100 data sheet (2023)"},
    Hardware{"H200", "NVIDIA H200 SXM", kGpu, 141, 4800, 67e3, 989.5e3, 989.5e3, 1979e3,
             "NVIDIA H200 data sheet (2024)"},
    Hardware{"RTX 3060", "NVIDIA GeForce RTX 3060 12GB", kGpu, 12, 360, 12.7e3, 25.5e3, 25.5e3, 101.9e3,
             "NVIDIA's product page (28 SMs, 1.78 GHz) and the GA102 whitepaper's rates a clock"},
    Hardware{"RTX 4090", "NVIDIA GeForce RTX 4090", kGpu, 24, 1008, 82.6e3, 165.2e3, 165.2e3, 660.6e3,
             "NVIDIA Ada GPU architecture whitepaper (2022), appendix A"},
    Hardware{
        "RTX 4050 Laptop", "NVIDIA GeForce RTX 4050 Laptop GPU", kGpu, 6, 192, 12.1e3, 24.3e3, 24.3e3, 97.1e3,
        "NVIDIA's product page (20 SMs, 194 TOPS with sparsity at 2.37 GHz; less at low power settings) and the Ada "
        "whitepaper's rates a clock"},
    // 32 f32 operations a clock and core (two FMAs of 8), 64 in bf16, 128 in int8, at the base clock of 4.5 GHz.
    Hardware{"Ryzen 7 7700X", "AMD Ryzen 7 7700X, 2 x 16 GB DDR5-5200", kCpu, 32, 83.2, 1152, kNone, 2304, 4608,
             "AMD's product page (8 cores, 4.5 GHz, two channels of DDR5-5200) and Zen 4 software optimization guide "
             "(57647)"},
    // 16 f32 operations a clock and core (two FMAs of 4), 32 in f16, 64 in int8 (SDOT).
    Hardware{"Raspberry Pi 5", "Raspberry Pi 5 8GB (BCM2712)", kCpu, 8, 17.1, 154, 307, kNone, 614,
             "Raspberry Pi 5 product brief (4 Cortex-A76 at 2.4 GHz, 32 bits of LPDDR4X-4267) and Arm's Cortex-A76 "
             "software optimization guide"},
};

bool is_called(const Hardware& hardware, const std::string& name) {
  const std::string processor = plain_name(hardware.processor);
  return name == plain_name(hardware.name) || name == processor || "nvidia" + name == processor ||
         "nvidiageforce" + name == processor;
}

}  // namespace

std::span<const Hardware> all_hardware() {
  return kHardware;
}

std::optional<Hardware> find_hardware(std::string_view name) {
  const auto at = std::find_if(kHardware.begin(), kHardware.end(),
                               [wanted = plain_name(name)](const Hardware& h) { return is_called(h, wanted); });
  return at == kHardware.end() ? std::nullopt : std::optional(*at);
}

Hardware named_hardware(std::string_view name) {
  if (const auto found = find_hardware(name)) return *found;
  std::vector<std::string> names, plain_names;
  for (const auto& h : kHardware) {
    names.emplace_back(h.name);
    plain_names.push_back(plain_name(h.name));
  }
  const std::string near = nearest_name(plain_name(name), plain_names);
  if (near.empty()) fail(ErrorKind::Usage, "'{}': no such machine; known are {}", name, fmt::join(names, ", "));
  fail(ErrorKind::Usage, "'{}': no such machine; did you mean {}?", name, find_hardware(near)->name);
}

Ceilings predicted_ceilings(const Hardware& hardware) {
  const auto share = [](const std::optional<double>& peak) {
    return peak ? std::optional(*peak * kPredictedMatrixShare) : std::nullopt;
  };
  Ceilings out;
  out.device = hardware.kind == HardwareKind::Cpu ? "cpu" : "cuda";
  out.processor = hardware.processor;
  out.predicted = true;
  out.read_gb_per_s = hardware.memory_gb_per_s * kPredictedBandwidthShare;
  out.f32_gflops = share(hardware.f32_gflops);
  out.f16_gflops = share(hardware.f16_gflops);
  out.bf16_gflops = share(hardware.bf16_gflops);
  return out;
}

}  // namespace slmi::ceilings
