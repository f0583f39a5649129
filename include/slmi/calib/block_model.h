// GPTQ onto GGUF blocks for a whole model: layer by layer, each calibrated on what the quantized layers before it give.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "slmi/calib/calibration_rows.h"
#include "slmi/calib/gptq_solver.h"
#include "slmi/calib/layer_options.h"
#include "slmi/calib/weight_source.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/quant/weight_format.h"

namespace slmi::calib {

struct BlockModelOptions : LayerOptions {
  SolverOptions solver;
};

struct BlockModel {
  std::map<std::string, std::vector<std::byte>> blocks;  // by Hugging Face's name, in its row order
  std::vector<ModuleReport> modules;
};

/// The format that a projection gets, by Hugging Face's name; none: it keeps its values.
using FormatOf = std::function<std::optional<quant::WeightFormat>(const std::string& name)>;

/// Quantizes a model's projections. Those whose format has no codes (F32, F16, BF16) are rounded as they are; they are
/// not among the blocks, and neither are those that keep their values.
/// Memory: the blocks, one layer, the hidden states of all calibration tokens, and one group's Hessian.
/// @throws what block_quantize throws.
BlockModel quantize_blocks(const formats::Checkpoint& checkpoint, const WeightSource& weights,
                           const CalibrationRows& rows, const FormatOf& format_of, const BlockModelOptions& options);

}  // namespace slmi::calib
