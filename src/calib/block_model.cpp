// A whole model onto GGUF blocks; see the header.
#include "slmi/calib/block_model.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <numeric>
#include <utility>

#include "layer_quantizer.h"
#include "slmi/calib/block_solver.h"
#include "slmi/quant/code_grid.h"

namespace slmi::calib {
namespace {

using quant::WeightFormat;

/// Collects the blocks of all groups.
class BlockGroups final : public GroupSolver {
 public:
  BlockGroups(const FormatOf& format_of, const BlockModelOptions& options) : format_of_(format_of), options_(options) {}

  Solved solve(const std::vector<std::string>& paths, const std::vector<at::Tensor>& weights, InputStatistics inputs,
               const std::string& name) override {
    Solved out;
    std::vector<size_t> solved;  // those that have codes to choose
    std::vector<BlockRows> rows;
    std::vector<at::Tensor> parts;
    for (size_t i = 0; i < paths.size(); ++i) {
      const auto format = format_of_(paths[i] + ".weight");
      if (format && quant::code_grid(*format)) {
        solved.push_back(i);
        rows.push_back({weights[i].size(0), *format});
        parts.push_back(weights[i]);
        out.matrices.emplace_back();
      } else {
        const auto values = ops::PackedMatrix::from_values(paths[i] + ".weight", weights[i].cpu());
        out.matrices.push_back(format ? values.converted_to(*format) : values);
      }
    }
    BlockResult result;
    if (!solved.empty())
      result =
          block_quantize(parts.size() == 1 ? parts[0] : at::cat(parts), std::move(inputs), rows, options_.solver, name);
    for (size_t j = 0; j < solved.size(); ++j) {
      const std::string tensor = paths[solved[j]] + ".weight";
      auto& blocks = blocks_[tensor] = std::move(result.blocks[j]);
      out.matrices[solved[j]] = matrix_of(tensor, rows[j].format, parts[j], blocks);
    }
    // Rows that nothing was chosen for have no error.
    for (size_t i = 0; i < paths.size(); ++i) {
      const auto n = static_cast<size_t>(weights[i].size(0));
      if (std::ranges::count(solved, i) > 0) continue;
      const auto before = std::accumulate(weights.begin(), weights.begin() + static_cast<int64_t>(i), int64_t{0},
                                          [](int64_t sum, const at::Tensor& w) { return sum + w.size(0); });
      for (auto* values : {&result.errors, &result.nearest_errors, &result.energies})
        values->insert(values->begin() + before, n, 0.0);
    }
    out.report = std::move(result);
    return out;
  }

  std::map<std::string, std::vector<std::byte>> take_blocks() { return std::move(blocks_); }

 private:
  /// Looks into `blocks`.
  ops::PackedMatrix matrix_of(const std::string& name, WeightFormat format, const at::Tensor& weight,
                              const std::vector<std::byte>& blocks) const {
    formats::StoredTensor stored;
    stored.name = name;
    stored.format = format;
    stored.shape = {weight.size(0), weight.size(1)};
    stored.bytes = blocks;
    return ops::PackedMatrix::from_stored(std::move(stored));
  }

  const FormatOf& format_of_;
  const BlockModelOptions& options_;
  std::map<std::string, std::vector<std::byte>> blocks_;
};

}  // namespace

BlockModel quantize_blocks(const formats::Checkpoint& checkpoint, const WeightSource& weights,
                           const CalibrationRows& rows, const FormatOf& format_of, const BlockModelOptions& options) {
  BlockGroups solver(format_of, options);
  LayerQuantizer quantizer(checkpoint, weights, rows, options, options.solver, solver);
  BlockModel out;
  const int64_t num_layers = checkpoint.config().num_layers;
  int64_t done = 0;
  for (int64_t i = 0; i < num_layers; ++i) {
    auto reports = quantizer.quantize(i, [&] {
      if (options.progress) options.progress(++done, kGroupsPerLayer * num_layers);
    });
    std::move(reports.begin(), reports.end(), std::back_inserter(out.modules));
  }
  out.blocks = solver.take_blocks();
  return out;
}

}  // namespace slmi::calib
