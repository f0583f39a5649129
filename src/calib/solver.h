// What GPTQ's solvers have in common, whatever the grid that they round to.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "slmi/calib/gptq_solver.h"

namespace slmi::calib {

/// Rows that share an input, ready for the column loop. Columns in the order of quantization. Letters: N rows, K
/// columns.
struct Problem {
  at::Tensor order;     // i64 [K]: position j takes column order[j]
  at::Tensor hessian;   // f32 [K, K]
  at::Tensor factor;    // f32 [K, K]: upper triangular U with H^-1 = U^T U, damped
  at::Tensor dead;      // bool [K]: inputs that were always 0
  at::Tensor weight;    // f32 [N, K]: as given
  at::Tensor original;  // f32 [N, K]: moved by the drift; what errors are against
  /// What the column loop may change: `original` without the weights of dead inputs.
  at::Tensor working() const { return original.masked_fill(dead, 0); }
};

/// @param order_of  gives the order from the Hessian's diagonal, f32 [K], dead inputs as the mean of the others.
/// @param report    gets damping and dead inputs. @throws as gptq_quantize.
Problem prepare(const at::Tensor& weight, InputStatistics inputs, const SolverOptions& options, const std::string& name,
                const std::function<at::Tensor(const at::Tensor& diagonal)>& order_of, SolverReport& report);

/// Sets errors, nearest_errors and energies. @param values, nearest  f32 [N, K], columns in the problem's order.
void measure_errors(const Problem& problem, const at::Tensor& values, const at::Tensor& nearest, SolverReport& report);

}  // namespace slmi::calib
