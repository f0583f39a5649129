// The ceilings of one device, measured or predicted: memory bandwidth and matrix rates, to hold every figure against.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "slmi/base/json.h"

namespace slmi::ceilings {

struct Ceilings {
  std::string device;      // "cpu", "cuda:0"; of a machine that is not here "cpu" or "cuda"
  std::string processor;   // the CPU's name, or the GPU's
  int64_t threads = 0;     // of the measurement on a CPU; 0: a GPU, or predicted
  bool predicted = false;  // from a data sheet (hardware.h), not measured
  // GB/s. On a CPU reading with `threads` threads, and with one; on a GPU copying, bytes read and written together.
  double read_gb_per_s = 0.0;
  std::optional<double> read_gb_per_s_one_thread;
  // GFLOP/s of libtorch's products. Absent: not measured, or the device has no fast products of that type.
  std::optional<double> f32_gflops, bf16_gflops, f16_gflops;
};

/// Measures a device in some five seconds and 1 GiB of its memory: on a CPU with the current number of threads, f32 and
/// bf16; on a GPU f16 too. Leaves the number of threads as it was.
/// @param progress  told what is measured next; may be empty, and may throw to stop.
Ceilings measure_ceilings(c10::Device device, const std::function<void(const std::string&)>& progress);

Json to_json(const Ceilings& ceilings);
/// The inverse. @throws Error{Input} naming `source` and the key that is missing or of the wrong type.
Ceilings ceilings_from_json(const Json& json, const std::string& source);

/// The rates that are there, for lists and tables: "f32", "bf16", "f16".
struct NamedRate {
  const char* name;
  std::optional<double> Ceilings::*gflops;
};
inline constexpr NamedRate kRates[] = {
    {"f32", &Ceilings::f32_gflops}, {"bf16", &Ceilings::bf16_gflops}, {"f16", &Ceilings::f16_gflops}};

}  // namespace slmi::ceilings
