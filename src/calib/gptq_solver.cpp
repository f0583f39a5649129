// GPTQ for one matrix; see the header.
#include "slmi/calib/gptq_solver.h"

#include <algorithm>
#include <utility>

#include "columns.h"
#include "slmi/base/error.h"

namespace slmi::calib {
namespace {

/// Position j of the quantization takes column order[j]; i64 [K] on the diagonal's device. Equal values keep their
/// order.
at::Tensor column_order(const at::Tensor& diagonal, int64_t group_size, ColumnOrder order) {
  const int64_t k = diagonal.size(0);
  const auto sorted = [](const at::Tensor& values) {
    return at::argsort(values, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  };
  if (order == ColumnOrder::AsStored) return at::arange(k, diagonal.options().dtype(at::kLong));
  if (order == ColumnOrder::ActOrder) return sorted(diagonal);
  const at::Tensor by_group = diagonal.view({k / group_size, group_size});
  const at::Tensor inside = sorted(by_group);
  const at::Tensor first = at::arange(0, k, group_size, inside.options()).unsqueeze(1);
  return (inside + first).index_select(0, sorted(by_group.amax(1))).reshape(-1);
}

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
Factor factorize(const at::Tensor& hessian, const at::Tensor& diagonal, const GptqOptions& options,
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

template <class T>
std::vector<T> to_vector(const at::Tensor& values) {
  const at::Tensor v = values.cpu().contiguous();
  return {v.data_ptr<T>(), v.data_ptr<T>() + v.numel()};
}

/// Codes, scales and groups back in the order of the stored columns.
quant::GptqCodes codes_of(const ColumnState& s, const at::Tensor& order, ColumnOrder kind) {
  const int64_t n = s.weight.size(0), k = s.weight.size(1), groups = s.scales.size(1);
  const at::Tensor inverse = at::argsort(order);
  at::Tensor scales = s.scales, group = at::floor_divide(inverse, s.group_size);
  if (kind == ColumnOrder::GroupAware) {
    // The group that was processed p-th is that of its first column; put its scales there.
    const at::Tensor original = at::floor_divide(order.view({groups, s.group_size}).select(1, 0), s.group_size);
    scales = at::empty_like(s.scales).index_copy_(1, original, s.scales);
    group = original.index_select(0, group);
  }
  quant::GptqCodes out;
  out.n = n;
  out.k = k;
  out.groups = groups;
  out.codes = to_vector<uint8_t>(s.codes.index_select(1, inverse));
  out.scales = to_vector<float>(scales);
  out.zeros.assign(static_cast<size_t>(n * groups), quant::kGptqSymmetricZero);
  out.g_idx = to_vector<int32_t>(group.to(at::kInt));
  return out;
}

/// The stored values, columns in the order of quantization.
at::Tensor values_of(const ColumnState& s) {
  const at::Tensor steps = s.codes.to(at::kFloat).sub_(static_cast<double>(quant::kGptqSymmetricZero));
  return steps.mul_(s.scales.repeat_interleave(s.group_size, 1));
}

void check_inputs(const at::Tensor& weight, const at::Tensor& hessian, int64_t group_size, const std::string& name) {
  const int64_t k = weight.size(1);
  require(hessian.size(0) == k && hessian.size(1) == k, ErrorKind::Internal, "{}: a Hessian of [{}, {}] for {} columns",
          name, hessian.size(0), hessian.size(1), k);
  require(group_size > 0 && k % group_size == 0 &&
              (group_size % kColumnBlock == 0 || kColumnBlock % group_size == 0 || group_size == k),
          ErrorKind::Usage, "{}: groups of {} do not divide its rows of {}; take 32, 64 or 128", name, group_size, k);
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

GptqResult gptq_quantize(const at::Tensor& weight, InputStatistics inputs, const GptqOptions& options,
                         const std::string& name) {
  const int64_t n = weight.size(0), k = weight.size(1);
  const int64_t group_size = options.group_size == -1 ? k : options.group_size;
  check_inputs(weight, inputs.hessian, group_size, name);
  require(options.damp > 0 && options.damp_step > 0 && options.damp <= options.max_damp, ErrorKind::Usage,
          "damping from {:g} by {:g} to {:g}; expected positive numbers, the first not above the last", options.damp,
          options.damp_step, options.max_damp);
  GptqResult result;
  const at::Tensor diagonal = inputs.hessian.diagonal().clone(), dead = diagonal == 0;
  result.dead_inputs = dead.sum().item<int64_t>();
  require(result.dead_inputs < k, ErrorKind::Numeric, "{}: all its calibration inputs are 0", name);
  // A dead input has no say: a diagonal like the others' keeps the mean, and 0 is the one weight that costs nothing.
  diagonal.masked_fill_(dead, diagonal.sum().item<double>() / static_cast<double>(k - result.dead_inputs));

  const at::Tensor order = column_order(diagonal, group_size, options.order);
  const at::Tensor hessian = ordered(std::exchange(inputs.hessian, at::Tensor()), order);
  const Factor factor = factorize(hessian, diagonal.index_select(0, order), options, name);
  result.damp = factor.damp;
  result.damp_raises = factor.raises;

  const at::Tensor ordered_weight = weight.index_select(1, order);
  at::Tensor original = ordered_weight;
  if (options.drift_alpha > 0) {
    require(inputs.drift.defined(), ErrorKind::Internal, "{}: no drift to move its weights by", name);
    original = moved(ordered_weight, inputs, order, factor.upper, options.drift_alpha);
    inputs = {};
  }
  ColumnState s;
  s.weight = original.masked_fill(dead.index_select(0, order), 0);
  s.factor = factor.upper;
  s.codes = at::empty({n, k}, weight.options().dtype(at::kByte));
  s.scales = at::empty({n, k / group_size}, weight.options());
  s.errors = at::empty({n, kColumnBlock}, weight.options());
  s.group_size = group_size;
  for (int64_t begin = 0; begin < k; begin += kColumnBlock) {
    const int64_t end = std::min(k, begin + kColumnBlock);
    quantize_block(s, begin, end);
    if (end < k)
      s.weight.narrow(1, end, k - end)
          .addmm_(s.errors.narrow(1, 0, end - begin), s.factor.narrow(0, begin, end - begin).narrow(1, end, k - end), 1,
                  -1);
  }
  result.errors = quadratic(values_of(s) - original, hessian);
  result.nearest_errors = quadratic(round_to_nearest(weight, group_size).index_select(1, order) - original, hessian);
  result.energies = quadratic(ordered_weight, hessian);
  result.codes = codes_of(s, order, options.order);
  return result;
}

quant::GptqCodes rows_of(const quant::GptqCodes& codes, int64_t begin, int64_t end) {
  quant::GptqCodes out;
  out.n = end - begin;
  out.k = codes.k;
  out.groups = codes.groups;
  const auto part = [&](const auto& values, int64_t width) {
    return std::remove_cvref_t<decltype(values)>(values.begin() + begin * width, values.begin() + end * width);
  };
  out.codes = part(codes.codes, codes.k);
  out.scales = part(codes.scales, codes.groups);
  out.zeros = part(codes.zeros, codes.groups);
  out.g_idx = codes.g_idx;
  return out;
}

}  // namespace slmi::calib
