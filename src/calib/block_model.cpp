// A whole model onto GGUF blocks; see the header.
#include "slmi/calib/block_model.h"

#include <ATen/ATen.h>
#include <memory>
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
  BlockGroups(const std::function<WeightFormat(const std::string&)>& format_of,
              const std::function<bool(const std::string&)>& stays, const BlockModelOptions& options)
      : format_of_(format_of), stays_(stays), options_(options) {}

  Solved solve(const std::vector<std::string>& paths, const std::vector<at::Tensor>& weights, InputStatistics inputs,
               const std::string& name) override {
    std::vector<size_t> solved;  // those that have codes to choose
    std::vector<BlockRows> rows;
    std::vector<at::Tensor> parts;
    for (size_t i = 0; i < paths.size(); ++i) {
      const std::string tensor = paths[i] + ".weight";
      if (stays_(tensor) || !quant::code_grid(format_of_(tensor))) continue;
      solved.push_back(i);
      rows.push_back({weights[i].size(0), format_of_(tensor)});
      parts.push_back(weights[i]);
    }
    BlockResult result;
    if (!solved.empty())
      result =
          block_quantize(parts.size() == 1 ? parts[0] : at::cat(parts), std::move(inputs), rows, options_.solver, name);
    Solved out;
    size_t next = 0, row = 0;
    for (size_t i = 0; i < paths.size(); ++i) {
      const std::string tensor = paths[i] + ".weight";
      const auto n = static_cast<size_t>(weights[i].size(0));
      if (next < solved.size() && solved[next] == i) {
        auto& blocks = blocks_[tensor] = std::move(result.blocks[next]);
        out.matrices.push_back(matrix_of(tensor, rows[next].format, weights[i], blocks));
        append(out.report, result, row, n);
        row += n;
        ++next;
      } else {
        auto values = ops::PackedMatrix::from_values(tensor, weights[i].cpu());
        out.matrices.push_back(stays_(tensor) ? values : values.converted_to(format_of_(tensor)));
        for (auto* zeros : {&out.report.errors, &out.report.nearest_errors, &out.report.energies})
          zeros->insert(zeros->end(), n, 0.0);
      }
    }
    out.report.damp = result.damp;
    out.report.damp_raises = result.damp_raises;
    out.report.dead_inputs = result.dead_inputs;
    return out;
  }

  std::map<std::string, std::vector<std::byte>> take_blocks() { return std::move(blocks_); }

 private:
  /// Looks into `blocks`; as numbers where the device has no use for blocks.
  ops::PackedMatrix matrix_of(const std::string& name, WeightFormat format, const at::Tensor& weight,
                              const std::vector<std::byte>& blocks) const {
    formats::StoredTensor stored;
    stored.name = name;
    stored.format = format;
    stored.shape = {weight.size(0), weight.size(1)};
    stored.bytes = blocks;
    auto out = ops::PackedMatrix::from_stored(std::move(stored));
    return options_.device.is_cpu() ? out : out.converted_to(ops::weight_format(options_.compute));
  }
  static void append(SolverReport& to, const SolverReport& from, size_t row, size_t n) {
    const auto part = [&](std::vector<double>& out, const std::vector<double>& in) {
      out.insert(out.end(), in.begin() + static_cast<int64_t>(row), in.begin() + static_cast<int64_t>(row + n));
    };
    part(to.errors, from.errors);
    part(to.nearest_errors, from.nearest_errors);
    part(to.energies, from.energies);
  }

  const std::function<WeightFormat(const std::string&)>& format_of_;
  const std::function<bool(const std::string&)>& stays_;
  const BlockModelOptions& options_;
  std::map<std::string, std::vector<std::byte>> blocks_;
};

}  // namespace

BlockModel quantize_blocks(const formats::Checkpoint& checkpoint, const WeightSource& weights,
                           const CalibrationRows& rows,
                           const std::function<WeightFormat(const std::string& name)>& format_of,
                           const std::function<bool(const std::string& name)>& stays,
                           const BlockModelOptions& options) {
  model::LoadOptions load;
  load.base_format = model::BaseFormat::F16;  // the embedding
  load.policy.compute = options.compute;
  load.device = options.device;
  load.residency = ops::Residency::Transient;
  load.block_weights = model::BlockWeights::Absent;
  BlockGroups solver(format_of, stays, options);
  LayerQuantizer quantizer(
      model::Llama::load(checkpoint, load), weights, rows, options,
      options.solver.drift_alpha > 0 ? LayerQuantizer::Drift::Measured : LayerQuantizer::Drift::Ignored, solver);
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
