// Machines that are named but not here: what their vendors publish, for columns of predictions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/ceilings/ceilings.h"

namespace slmi::ceilings {

/// Shares of the published peaks that libtorch's products and copies reach, used for every prediction.
///
/// Measured: an H200 copies at 4.3 of 4.8 TB/s, an H100 at 3.03 of 3.35 (0.90 both); bf16 products of 8192^3 run at 790
/// and 797 of 989 TFLOP/s (0.80), on two cores of a Zen 4 class CPU at 190 of 230 GFLOP/s in f32 and 406 of 466 in bf16
/// (0.83, 0.87).
inline constexpr double kPredictedBandwidthShare = 0.9;
inline constexpr double kPredictedMatrixShare = 0.8;

enum class HardwareKind { Cpu, Gpu };

/// Peaks as published, dense (no 2:4 sparsity), 16-bit products accumulated in f32. Absent rates: no such units.
struct Hardware {
  std::string_view name;       // "T4"
  std::string_view processor;  // the whole name
  HardwareKind kind = HardwareKind::Gpu;
  double memory_gb = 0.0;  // of the GPU, or what such a machine usually has
  double memory_gb_per_s = 0.0;
  double f32_gflops = 0.0;
  std::optional<double> f16_gflops, bf16_gflops, int8_gops;
  std::string_view source;  // where the numbers stand, or how they follow from what stands there
};

/// Every machine known.
std::span<const Hardware> all_hardware();

/// A machine by its name or its processor's, the maker left out if you like; letter case, blanks, '-' and '_' do not
/// count ("rtx-4090" is "RTX 4090", "H100 SXM" is "H100").
std::optional<Hardware> find_hardware(std::string_view name);

/// The same. @throws Error{Usage} "'T44': no such machine; did you mean T4?", or with the list of names.
Hardware named_hardware(std::string_view name);

/// What the machine's ceilings should be: its peaks times the shares above, marked as predicted. A rate that the
/// hardware has no units for is absent.
Ceilings predicted_ceilings(const Hardware& hardware);

}  // namespace slmi::ceilings
