// Counters of RAPL and NVML; see the header.
#include "slmi/eval/energy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "slmi/base/dynamic_library.h"

namespace slmi::eval {
namespace {

namespace fs = std::filesystem;

/// The number that a file of sysfs holds.
std::optional<uint64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  uint64_t value = 0;
  return in >> value ? std::optional(value) : std::nullopt;
}

std::string word_in(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  in >> word;
  return word;
}

/// True for "intel-rapl:0", the top of a package's tree; "intel-rapl:0:0" is a part of it.
bool is_top_domain(std::string_view directory_name) {
  constexpr std::string_view kPrefix = "intel-rapl:";
  return directory_name.starts_with(kPrefix) && directory_name.find(':', kPrefix.size()) == std::string_view::npos;
}

/// "0000:3B:00.0" of a GPU as CUDA counts them, which need not be NVML's order; "" if CUDA's driver does not say.
std::string pci_bus_id(int gpu) {
  const DynamicLibrary cuda("libcuda.so.1");
  int device = 0;
  std::array<char, 32> id{};
  const bool known = cuda.call("cuInit", 0U) == 0 && cuda.call("cuDeviceGet", &device, gpu) == 0 &&
                     cuda.call("cuDeviceGetPCIBusId", id.data(), static_cast<int>(id.size()), device) == 0;
  return known ? id.data() : "";
}

/// What NVML's status means for who reads it (nvml.h: nvmlReturn_t).
std::string nvml_problem(int status) {
  constexpr int kNotSupported = 3;
  if (status == kNotSupported) return "this GPU does not count its energy (Volta and later do)";
  if (status == DynamicLibrary::kNoFunction) return "the driver is too old to count energy";
  return fmt::format("status {}", status);
}

}  // namespace

EnergyMeter::EnergyMeter(const EnergyOptions& options) {
  open_rapl(options.powercap);
  if (options.gpu) open_nvml(*options.gpu, options.nvml);
}

void EnergyMeter::open_rapl(const fs::path& powercap) {
  std::vector<fs::path> domains;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(powercap, error))
    if (is_top_domain(entry.path().filename().string()) && word_in(entry.path() / "name").starts_with("package"))
      domains.push_back(entry.path());
  std::sort(domains.begin(), domains.end());
  if (domains.empty()) {
    missing_.push_back(fmt::format("RAPL: no package domain in {}", powercap.string()));
    return;
  }
  std::vector<Counter> packages;
  for (const auto& domain : domains) {
    const fs::path file = domain / "energy_uj";
    errno = 0;
    if (!number_in(file)) {
      // All packages or none: a machine's energy without one of its processors would be a wrong number.
      missing_.push_back(
          fmt::format("RAPL: {} cannot be read ({}); 'sudo chmod a+r {}/intel-rapl:*/energy_uj' lets "
                      "every user",
                      file.string(), errno != 0 ? std::strerror(errno) : "it holds no number", powercap.string()));
      return;
    }
    packages.push_back({"RAPL " + word_in(domain / "name"), [file] { return number_in(file); },
                        number_in(domain / "max_energy_range_uj").value_or(0), 0});
  }
  counters_ = std::move(packages);
}

void EnergyMeter::open_nvml(int gpu, const std::string& library_name) {
  const auto give_up = [this](const std::string& why) {
    missing_.push_back("NVML: " + why);
    usable_ = false;
  };
  const DynamicLibrary nvml(library_name);
  if (!nvml.found()) return give_up(library_name + " is not there");
  if (const int status = nvml.call("nvmlInit_v2"); status != 0) return give_up(nvml_problem(status));
  void* device = nullptr;
  const std::string id = pci_bus_id(gpu);
  const int status = id.empty() ? nvml.call("nvmlDeviceGetHandleByIndex_v2", static_cast<unsigned>(gpu), &device)
                                : nvml.call("nvmlDeviceGetHandleByPciBusId_v2", id.c_str(), &device);
  if (status != 0) return give_up(fmt::format("GPU {}: {}", gpu, nvml_problem(status)));
  const auto read_mj = [nvml, device](unsigned long long* millijoules) {
    return nvml.call("nvmlDeviceGetTotalEnergyConsumption", device, millijoules);
  };
  unsigned long long now_mj = 0;
  if (const int read = read_mj(&now_mj); read != 0) return give_up(fmt::format("GPU {}: {}", gpu, nvml_problem(read)));
  const auto read_uj = [read_mj]() -> std::optional<uint64_t> {
    unsigned long long millijoules = 0;
    if (read_mj(&millijoules) != 0) return std::nullopt;
    return uint64_t{millijoules} * 1000;
  };
  counters_.push_back({fmt::format("NVML GPU {}", gpu), read_uj, 0, 0});
}

std::vector<std::string> EnergyMeter::sources() const {
  std::vector<std::string> out;
  for (const auto& counter : counters_) out.push_back(counter.name);
  return out;
}

void EnergyMeter::advance(Read what) {
  const bool count = what == Read::Count;
  for (auto& counter : counters_) {
    const auto now_uj = counter.read_uj();
    const bool started_again = now_uj && *now_uj < counter.last_uj;
    if (!now_uj || (count && started_again && counter.range_uj < counter.last_uj)) {
      if (usable_) missing_.push_back(counter.name + ": could not be read to the end");
      usable_ = false;
      return;
    }
    if (count)
      joules_ += 1e-6 * static_cast<double>(started_again ? counter.range_uj - counter.last_uj + *now_uj
                                                          : *now_uj - counter.last_uj);
    counter.last_uj = *now_uj;
  }
}

void EnergyMeter::start() {
  joules_ = 0.0;
  advance(Read::Baseline);
}

void EnergyMeter::sample() {
  advance(Read::Count);
}

std::optional<Energy> EnergyMeter::stop() {
  sample();
  if (!usable_ || counters_.empty()) return std::nullopt;
  return Energy{joules_, describe()};
}

std::string EnergyMeter::describe() const {
  const bool none = !usable_ || counters_.empty();
  std::string out = none ? "none" : fmt::format("{}", fmt::join(sources(), ", "));
  if (!missing_.empty()) out += fmt::format(" ({}{})", none ? "" : "without ", fmt::join(missing_, "; "));
  return out;
}

}  // namespace slmi::eval
