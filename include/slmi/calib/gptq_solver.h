// GPTQ for one matrix: codes that keep the product with the calibration inputs, column by column.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "slmi/calib/hessian.h"
#include "slmi/quant/gptq_packing.h"

namespace slmi::calib {

/// In which order columns are quantized; later ones make up for the errors of earlier ones.
enum class ColumnOrder {
  AsStored,
  ActOrder,    // by falling diagonal of the Hessian: groups are then of columns from everywhere (desc_act, g_idx)
  GroupAware,  // groups by their largest diagonal, columns inside a group by theirs; groups stay where they are
};             // GroupAware: Gafni et al. 2025, arXiv:2505.14638

/// What every grid's solver is told.
struct SolverOptions {
  double damp = 0.05;       // added to the diagonal, as a share of its mean
  double damp_step = 0.01;  // added to that share at each failure of the factorization
  double max_damp = 0.5;
  /// How far weights are moved beforehand, from 0 (not at all) to 1: to where the product with the quantized model's
  /// inputs, and the residual that it is added to, come closest to the unquantized model's. The aim of GPTAQ (Li et al.
  /// 2025, arXiv:2504.02692), which leaves the residual out. All the way overfits the calibration rows.
  double drift_alpha = 0.0;
  bool operator==(const SolverOptions&) const = default;
};

struct GptqOptions : SolverOptions {
  int64_t group_size = 128;  // G, divides K; -1: one group a row
  ColumnOrder order = ColumnOrder::GroupAware;
};

/// How a solver fared.
struct SolverReport {
  std::vector<double> errors;          // [N] e H e^T of each row, e = what is stored minus the (moved) weight
  std::vector<double> nearest_errors;  // [N] the same for round-to-nearest (GPTQ's groups: with scales 2*max|w|/15)
  std::vector<double> energies;        // [N] w H w^T
  double damp = 0;                     // the share that was used
  int64_t damp_raises = 0;             // how often the factorization failed before
  int64_t dead_inputs = 0;             // columns whose inputs were always 0; their weights become 0
};

struct GptqResult : SolverReport {
  quant::GptqCodes codes;  // symmetric: every zero is 8; scales are f16 numbers
};

/// Quantizes [N, K] rows that share an input with GPTQ (Frantar et al. 2022, arXiv:2210.17323, algorithm 1): blocks of
/// 128 columns, updates behind a block in one product. Symmetric 4 bits: the scale of a group is searched when its
/// first column is reached, for the least error as the later columns will count it (kernels/cpu/group_search.h), and
/// rounded to f16 before it is used; it may be negative. Codes clamped to 0..15 around 8.
///
/// @param weight   f32 [N, K]; not modified.
/// @param inputs   on the weight's device; not modified, and let go as soon as may be. The drift is needed for
///                 drift_alpha > 0.
/// @param name     of the layer, for errors.
/// @throws Error{Usage} if G does not divide K, Error{Numeric} naming the layer if weight or Hessian hold NaN or
///         infinity, if all inputs were 0, or if the Hessian is not positive definite at max_damp. There is no quiet
///         fallback to round-to-nearest.
/// Cost O(N K^2 + K^3); 4 (5 N K + 5 K^2) bytes of scratch. Deterministic for equal inputs on one device.
GptqResult gptq_quantize(const at::Tensor& weight, InputStatistics inputs, const GptqOptions& options,
                         const std::string& name);

/// Rows [begin, end) of a result's codes.
quant::GptqCodes rows_of(const quant::GptqCodes& codes, int64_t begin, int64_t end);

}  // namespace slmi::calib
