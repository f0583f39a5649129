// GPTQ for one matrix; see the header.
#include "slmi/calib/gptq_solver.h"

#include <ATen/ATen.h>
#include <utility>

#include "columns.h"
#include "slmi/base/error.h"
#include "solver.h"

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

template <class T>
std::vector<T> to_vector(const at::Tensor& values) {
  const at::Tensor v = values.cpu().contiguous();
  return {v.data_ptr<T>(), v.data_ptr<T>() + v.numel()};
}

/// Codes, scales and groups back in the order of the stored columns.
quant::GptqCodes codes_of(const at::Tensor& codes, const GptqGrid& grid, const at::Tensor& order, ColumnOrder kind) {
  const int64_t n = codes.size(0), k = codes.size(1), groups = grid.steps.size(1);
  const at::Tensor inverse = at::argsort(order);
  at::Tensor scales = grid.steps, group = at::floor_divide(inverse, grid.width);
  if (kind == ColumnOrder::GroupAware) {
    // The group that was processed p-th is that of its first column; put its scales there.
    const at::Tensor original = at::floor_divide(order.view({groups, grid.width}).select(1, 0), grid.width);
    scales = at::empty_like(grid.steps).index_copy_(1, original, grid.steps);
    group = original.index_select(0, group);
  }
  quant::GptqCodes out;
  out.n = n;
  out.k = k;
  out.groups = groups;
  out.codes = to_vector<uint8_t>(codes.index_select(1, inverse));
  out.scales = to_vector<float>(scales);
  out.zeros.assign(static_cast<size_t>(n * groups), quant::kGptqSymmetricZero);
  out.g_idx = to_vector<int32_t>(group.to(at::kInt));
  return out;
}

/// The stored values, columns in the order of quantization.
at::Tensor values_of(const at::Tensor& codes, const GptqGrid& grid) {
  const at::Tensor steps = codes.to(at::kFloat).sub_(static_cast<double>(quant::kGptqSymmetricZero));
  return steps.mul_(grid.steps.repeat_interleave(grid.width, 1));
}

}  // namespace

GptqResult gptq_quantize(const at::Tensor& weight, InputStatistics inputs, const GptqOptions& options,
                         const std::string& name) {
  const int64_t n = weight.size(0), k = weight.size(1);
  const int64_t group_size = options.group_size == -1 ? k : options.group_size;
  require(group_size > 0 && k % group_size == 0 &&
              (group_size % kColumnBlock == 0 || kColumnBlock % group_size == 0 || group_size == k),
          ErrorKind::Usage, "{}: groups of {} do not divide its rows of {}; take 32, 64 or 128", name, group_size, k);
  GptqResult result;
  const Problem problem = prepare(
      weight, std::move(inputs), options, name,
      [&](const at::Tensor& diagonal) { return column_order(diagonal, group_size, options.order); }, result);
  // With w - q the error of column i when its turn comes, what is lost for good is |w - q|^2 / U[i, i]^2.
  GptqGrid grid(n, group_size, problem.factor.diagonal().square().reciprocal(), weight);
  at::Tensor working = problem.working(), errors = at::empty({n, kColumnBlock}, weight.options());
  const at::Tensor codes = at::empty({n, k}, weight.options().dtype(at::kByte));
  std::vector<ColumnState> parts{{working, problem.factor, codes, errors, &grid}};
  quantize_columns(parts, working, errors, problem.factor);
  measure_errors(problem, values_of(codes, grid), round_to_nearest(weight, group_size).index_select(1, problem.order),
                 result);
  result.codes = codes_of(codes, grid, problem.order, options.order);
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
