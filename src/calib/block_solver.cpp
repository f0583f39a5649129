// GPTQ onto GGUF blocks; see the header.
#include "slmi/calib/block_solver.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <deque>
#include <utility>

#include "columns.h"
#include "slmi/base/error.h"
#include "slmi/calib/importance.h"
#include "slmi/quant/gguf_codec.h"
#include "solver.h"

namespace slmi::calib {
namespace {

at::Tensor values_of(quant::WeightFormat format, std::span<const std::byte> blocks, int64_t n, int64_t k) {
  at::Tensor out = at::empty({n, k}, at::kFloat);
  quant::dequantize(format, blocks, n, k, 0, n, std::span(out.data_ptr<float>(), static_cast<size_t>(n * k)));
  return out;
}

void check_rows(const at::Tensor& weight, std::span<const BlockRows> rows, const std::string& name) {
  int64_t n = 0;
  for (const auto& part : rows) n += part.n;
  require(n == weight.size(0), ErrorKind::Internal, "{}: formats for {} rows of {}", name, n, weight.size(0));
  const auto largest = weight.abs().max().item<double>();
  require(!(largest > quant::kLargestSearched), ErrorKind::Numeric,
          "{}: it holds {:g}; blocks hold at most {:g} in magnitude", name, largest, quant::kLargestSearched);
}

}  // namespace

BlockResult block_quantize(const at::Tensor& weight, InputStatistics inputs, std::span<const BlockRows> rows,
                           const SolverOptions& options, const std::string& name) {
  const int64_t n = weight.size(0), k = weight.size(1);
  check_rows(weight, rows, name);
  const std::vector<float> importance = importances_of(inputs.hessian.diagonal() / 2);
  BlockResult result;
  const Problem problem = prepare(
      weight, std::move(inputs), options, name,
      [&](const at::Tensor& diagonal) { return at::arange(k, diagonal.options().dtype(at::kLong)); }, result);
  at::Tensor working = problem.working(), errors = at::empty({n, kColumnBlock}, weight.options());
  const at::Tensor codes = at::empty({n, k}, weight.options().dtype(at::kByte));
  std::deque<BlockGrid> grids;
  std::vector<ColumnState> parts;
  int64_t first = 0;
  for (const auto& part : rows) {
    grids.emplace_back(part.format, part.n, k, importance, weight);
    const auto own = [&](const at::Tensor& all) { return all.narrow(0, first, part.n); };
    parts.push_back({own(working), problem.factor, own(codes), own(errors), &grids.back()});
    first += part.n;
  }
  quantize_columns(parts, working, errors, problem.factor);

  const at::Tensor given = weight.cpu().contiguous();
  std::vector<at::Tensor> values, nearest;
  first = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto [part_n, format] = rows[i];
    auto& blocks = result.blocks.emplace_back(std::move(grids[i]).blocks(parts[i].codes));
    values.push_back(values_of(format, blocks, part_n, k));
    const std::span from(given.const_data_ptr<float>() + first * k, static_cast<size_t>(part_n * k));
    nearest.push_back(
        values_of(format, quant::quantize(format, from, part_n, k, {.importance = importance}), part_n, k));
    first += part_n;
  }
  measure_errors(problem, at::cat(values).to(weight.device()), at::cat(nearest).to(weight.device()), result);
  return result;
}

}  // namespace slmi::calib
