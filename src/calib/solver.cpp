// Factorization, drift and errors; see the header.
#include "solver.h"

#include <ATen/ATen.h>
#include <utility>

#include "slmi/base/error.h"

namespace slmi::calib {
namespace {

struct Factor {
  at::Tensor upper;  // f32 [K, K] U with H^-1 = U^T U
  double damp = 0;
  int64_t raises = 0;
};

/// U from H by one factorization: with the order of rows and columns turned round (P), P H P = L L^T gives H = R R^T
/// with R = P L P upper triangular, so U = R^-1 = P L^-1 P. Takes P H P, which is gone then: at thousands of columns
/// each of these matrices counts. Undefined if H is not positive definite.
at::Tensor upper_factor(at::Tensor turned_hessian) {
  auto [lower, info] = at::linalg_cholesky_ex(turned_hessian);
  turned_hessian.reset();
  if (info.item<int>() != 0) return {};
  at::Tensor inverse = at::linalg_solve_triangular(lower, at::eye(lower.size(0), lower.options()), /*upper=*/false);
  lower.reset();
  const at::Tensor upper = inverse.flip({0, 1}).contiguous();  // what solves by columns leaves them together
  inverse.reset();
  return at::isfinite(upper.sum()).item<bool>() ? upper : at::Tensor();
}

/// Of the Hessian with another diagonal, f32 [K].
Factor factorize(const at::Tensor& hessian, const at::Tensor& diagonal, const SolverOptions& options,
                 const std::string& name) {
  const double mean = diagonal.mean().item<double>();
  Factor out;
  for (double damp = options.damp; damp <= options.max_damp; damp += options.damp_step) {
    at::Tensor turned = hessian.flip({0, 1});
    turned.diagonal().copy_((diagonal + damp * mean).flip(0));
    out.damp = damp;
    out.upper = upper_factor(std::move(turned));
    if (out.upper.defined()) return out;
    ++out.raises;
  }
  fail(ErrorKind::Numeric,
       "{}: its Hessian is not positive definite, even with {:g} of the diagonal's mean added ({} tries, from {:g}); "
       "take more calibration rows, or raise --max-damp (now {:g})",
       name, out.damp, out.raises, options.damp, options.max_damp);
}

std::vector<double> to_doubles(const at::Tensor& values) {
  const at::Tensor v = values.to(at::kCPU, at::kDouble).contiguous();
  return {v.data_ptr<double>(), v.data_ptr<double>() + v.numel()};
}

/// e H e^T of every row of e: f32 products, summed in f64.
std::vector<double> quadratic(const at::Tensor& e, const at::Tensor& hessian) {
  return to_doubles((at::mm(e, hessian) * e).sum(1, /*keepdim=*/false, at::kDouble));
}

void check_inputs(const at::Tensor& weight, const at::Tensor& hessian, const std::string& name) {
  const int64_t k = weight.size(1);
  require(hessian.size(0) == k && hessian.size(1) == k, ErrorKind::Internal, "{}: a Hessian of [{}, {}] for {} columns",
          name, hessian.size(0), hessian.size(1), k);
  require(at::isfinite(weight).all().item<bool>(), ErrorKind::Numeric, "{}: its weights hold NaN or infinity", name);
  require(at::isfinite(hessian).all().item<bool>(), ErrorKind::Numeric, "{}: its Hessian holds NaN or infinity", name);
}

/// Rows and columns in another order.
at::Tensor ordered(const at::Tensor& square, const at::Tensor& order) {
  return square.index_select(0, order).index_select(1, order);
}

/// The weight, columns in order, moved by alpha (W D + R) H^-1 (D, R: drifts of the input and of the residual): the
/// least squares answer to the unquantized model's outputs, given the quantized one's inputs.
at::Tensor moved(const at::Tensor& ordered_weight, const InputStatistics& inputs, const at::Tensor& order,
                 const at::Tensor& upper, double alpha) {
  at::Tensor wanted = at::mm(ordered_weight, ordered(inputs.drift, order));
  if (inputs.residual_drift.defined()) wanted += inputs.residual_drift.index_select(1, order);
  return ordered_weight.add(at::mm(at::mm(wanted, upper.t()), upper), alpha);
}

}  // namespace

Problem prepare(const at::Tensor& weight, InputStatistics inputs, const SolverOptions& options, const std::string& name,
                const std::function<at::Tensor(const at::Tensor& diagonal)>& order_of, SolverReport& report) {
  const int64_t k = weight.size(1);
  check_inputs(weight, inputs.hessian, name);
  require(options.damp > 0 && options.damp_step > 0 && options.damp <= options.max_damp, ErrorKind::Usage,
          "damping from {:g} by {:g} to {:g}; expected positive numbers, the first not above the last", options.damp,
          options.damp_step, options.max_damp);
  const at::Tensor diagonal = inputs.hessian.diagonal().clone(), dead = diagonal == 0;
  report.dead_inputs = dead.sum().item<int64_t>();
  require(report.dead_inputs < k, ErrorKind::Numeric, "{}: all its calibration inputs are 0", name);
  // A dead input has no say: a diagonal like the others' keeps the mean, and 0 is the one weight that costs nothing.
  diagonal.masked_fill_(dead, diagonal.sum().item<double>() / static_cast<double>(k - report.dead_inputs));

  Problem out;
  out.order = order_of(diagonal);
  out.hessian = ordered(std::exchange(inputs.hessian, at::Tensor()), out.order);
  const Factor factor = factorize(out.hessian, diagonal.index_select(0, out.order), options, name);
  report.damp = factor.damp;
  report.damp_raises = factor.raises;
  out.factor = factor.upper;
  out.dead = dead.index_select(0, out.order);
  out.weight = weight.index_select(1, out.order);
  out.original = out.weight;
  if (options.drift_alpha > 0) {
    require(inputs.drift.defined(), ErrorKind::Internal, "{}: no drift to move its weights by", name);
    out.original = moved(out.weight, inputs, out.order, out.factor, options.drift_alpha);
  }
  return out;
}

void measure_errors(const Problem& problem, const at::Tensor& values, const at::Tensor& nearest, SolverReport& report) {
  report.errors = quadratic(values - problem.original, problem.hessian);
  report.nearest_errors = quadratic(nearest - problem.original, problem.hessian);
  report.energies = quadratic(problem.weight, problem.hessian);
}

}  // namespace slmi::calib
