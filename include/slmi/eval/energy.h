// Energy that the hardware itself counts: RAPL of the processors, NVML of a GPU. Whole packages and cards: whatever
// else runs there counts too, and so does idling.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace slmi::eval {

struct EnergyOptions {
  std::filesystem::path powercap = "/sys/class/powercap";  // where the kernel shows RAPL
  std::optional<int> gpu = {};                             // CUDA's number of the GPU that works; absent: none does
  std::string nvml = "libnvidia-ml.so.1";                  // NVIDIA's management library, opened if it is there
};

struct Energy {
  double joules = 0.0;
  std::string sources;  // "RAPL package-0, NVML GPU 0"
};

/// Joules between start() and stop(), summed over the counters that can be read: one a processor package
/// (powercap/intel-rapl:N, AMD's too; their parts and psys are left out, as they would count twice), and the GPU's.
/// A GPU that cannot be read makes the whole absent: without it most of the energy would be missing. Not thread-safe.
class EnergyMeter {
 public:
  explicit EnergyMeter(const EnergyOptions& options = {});

  /// The counters there are: "RAPL package-0", "NVML GPU 0".
  std::vector<std::string> sources() const;

  void start();
  /// Reads the counters, which start again at 0 after some hours (RAPL: 262 kJ on many machines, 40 minutes at 100 W):
  /// call it at least that often between start() and stop(). Costs microseconds.
  void sample();
  /// Absent if there is no counter, or one could not be read on the way.
  std::optional<Energy> stop();

  /// The sources and, where one is missing, why: "RAPL package-0", "none (RAPL: ...)".
  std::string describe() const;

 private:
  struct Counter {
    std::string name;
    std::function<std::optional<uint64_t>()> read_uj;  // microjoules since some moment
    uint64_t range_uj = 0;                             // its highest value; 0: it does not start again
    uint64_t last_uj = 0;
  };
  void open_rapl(const std::filesystem::path& powercap);
  void open_nvml(int gpu, const std::string& library_name);
  enum class Read {
    Baseline,  // where counting starts
    Count,     // what has been used since the last read
  };
  void advance(Read what);

  std::vector<Counter> counters_;
  std::vector<std::string> missing_;  // "RAPL: why"
  bool usable_ = true;                // what is missing can be done without, and all reads went well
  double joules_ = 0.0;
};

}  // namespace slmi::eval
