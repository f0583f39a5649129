// GPTQ onto GGUF blocks: codes that keep the product with the calibration inputs, in files that llama.cpp reads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "slmi/calib/gptq_solver.h"
#include "slmi/quant/weight_format.h"

namespace slmi::calib {

/// Some rows, one after another.
struct BlockRows {
  int64_t n = 0;
  quant::WeightFormat format = quant::WeightFormat::Q4_K;  // one with a grid of codes (quant/code_grid.h)
};

struct BlockResult : SolverReport {
  std::vector<std::vector<std::byte>> blocks;  // packed, one a BlockRows
};

/// Quantizes [N, K] rows that share an input as gptq_quantize does, columns as stored, to blocks: their scales by the
/// format's own quantizer with the inputs' mean squares as importances, once the block's first column is reached; then
/// codes column by column, later ones making up for earlier ones.
///
/// @param rows  together N rows; K is a multiple of every format's block.
/// @throws as gptq_quantize; Error{Numeric} also for weights beyond 32768 in magnitude.
BlockResult block_quantize(const at::Tensor& weight, InputStatistics inputs, std::span<const BlockRows> rows,
                           const SolverOptions& options, const std::string& name);

}  // namespace slmi::calib
