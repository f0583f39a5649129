// GPTQ onto GGUF blocks for a whole model: layer by layer, each calibrated on what the quantized layers before it give.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
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

/// Quantizes a model's projections to the formats that `format_of` names by Hugging Face's name; those without codes
/// (F32, F16, BF16) are rounded as they are, and are not among the blocks. Those that `stays` names keep their values.
/// Memory: the blocks, one layer, the hidden states of all calibration tokens, and one group's Hessian.
/// @throws what block_quantize throws.
BlockModel quantize_blocks(const formats::Checkpoint& checkpoint, const WeightSource& weights,
                           const CalibrationRows& rows,
                           const std::function<quant::WeightFormat(const std::string& name)>& format_of,
                           const std::function<bool(const std::string& name)>& stays, const BlockModelOptions& options);

}  // namespace slmi::calib
