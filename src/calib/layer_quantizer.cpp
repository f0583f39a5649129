// One layer: Hessians, solver, and the hidden states on; see the header.
#include "layer_quantizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "slmi/base/error.h"

namespace slmi::calib {
namespace {

ops::LinearGroup& group_of(model::Llama::Block& block, GroupKind kind) {
  switch (kind) {
    case GroupKind::Qkv:
      return block.qkv;
    case GroupKind::Output:
      return block.output;
    case GroupKind::GateUp:
      return block.gate_up;
    case GroupKind::Down:
      break;
  }
  return block.down;
}

constexpr GroupKind kAllGroups[] = {GroupKind::Qkv, GroupKind::Output, GroupKind::GateUp, GroupKind::Down};

double relative(const std::vector<double>& errors, const std::vector<double>& energies, int64_t begin, int64_t end) {
  const auto sum = [&](const std::vector<double>& v) {
    return std::accumulate(v.begin() + begin, v.begin() + end, 0.0);
  };
  const double energy = sum(energies);
  return energy > 0 ? std::sqrt(std::max(0.0, sum(errors)) / energy) : 0.0;
}

std::shared_ptr<model::Llama> load_without_layers(const formats::Checkpoint& checkpoint, const LayerOptions& options) {
  model::LoadOptions load;
  load.base_format = model::BaseFormat::F16;  // as GPTQ's directories hold the embedding
  load.policy.compute = options.compute;
  load.device = options.device;
  load.residency = ops::Residency::Transient;
  load.block_weights = model::BlockWeights::Absent;
  return model::Llama::load(checkpoint, load);
}

}  // namespace

const SiteGroup& site_group(GroupKind kind) {
  static const SiteGroup groups[] = {{"self_attn", {"q_proj", "k_proj", "v_proj"}},
                                     {"self_attn", {"o_proj"}},
                                     {"mlp", {"gate_proj", "up_proj"}},
                                     {"mlp", {"down_proj"}}};
  return groups[static_cast<size_t>(kind)];
}

std::string module_path(int64_t layer, GroupKind kind, const std::string& module) {
  return fmt::format("model.layers.{}.{}.{}", layer, site_group(kind).parent, module);
}

LayerQuantizer::LayerQuantizer(const formats::Checkpoint& checkpoint, const WeightSource& weights,
                               const CalibrationRows& rows, const LayerOptions& options,
                               const SolverOptions& solver_options, GroupSolver& solver)
    : llama_(load_without_layers(checkpoint, options)),
      weights_(weights),
      rows_(rows),
      options_(options),
      solver_(solver) {
  int64_t positions = 0;
  for (const auto& batch : rows.batches) {
    hidden_.push_back(llama_->embed(batch.tokens));
    positions = std::max(positions, batch.num_positions);
  }
  llama_->reserve_positions(positions);
  if (solver_options.drift_alpha > 0) reference_.emplace(*llama_, hidden_.size());
}

/// body(index of a batch, what a pass over it is given).
template <class Body>
void LayerQuantizer::each_batch(const Body& body) {
  for (size_t i = 0; i < hidden_.size(); ++i) {
    model::ForwardContext context;
    context.positions = rows_.batches[i].positions;
    context.plan = rows_.batches[i].plan;
    body(i, context);
  }
}

LayerQuantizer::Weights LayerQuantizer::read_weights(int64_t layer) const {
  Weights out;
  for (const GroupKind kind : kAllGroups)
    for (const auto& module : site_group(kind).modules)
      out[static_cast<size_t>(kind)].push_back(weights_(module_path(layer, kind, module) + ".weight"));
  return out;
}

void LayerQuantizer::set_reference(int64_t layer, const Weights& weights) {
  for (const GroupKind kind : kAllGroups) {
    const auto& modules = site_group(kind).modules;
    std::vector<ops::PackedMatrix> matrices;
    for (size_t i = 0; i < modules.size(); ++i)
      matrices.push_back(ops::PackedMatrix::from_values(module_path(layer, kind, modules[i]) + ".weight",
                                                        weights[static_cast<size_t>(kind)][i])
                             .converted_to(ops::weight_format(options_.compute)));
    set_group(reference_->llama(), layer, kind, std::move(matrices));
  }
}

/// step(model, its hidden state before) gives the one after; of the reference first, which is told by the difference.
template <class Step>
void LayerQuantizer::advance(size_t i, const Step& step) {
  at::Tensor wanted;
  if (reference_) wanted = step(Side::Reference, reference_->hidden(i, hidden_[i]));
  hidden_[i] = step(Side::Quantized, hidden_[i]);
  if (reference_) reference_->keep(i, wanted, hidden_[i]);
}

std::vector<ModuleReport> LayerQuantizer::quantize(int64_t layer, const std::function<void()>& group_done) {
  const auto& config = llama_->config();
  const Weights originals = read_weights(layer);
  if (reference_) set_reference(layer, originals);
  std::vector<ModuleReport> reports;
  // input(side, its hidden state, index of the batch, what a pass over it is given): what the group is multiplied with.
  const auto calibrate = [&](GroupKind kind, int64_t k, const auto& input) {
    Hessian hessian(k, options_.device);
    each_batch([&](size_t i, const model::ForwardContext& context) {
      const auto weighed = [&](const at::Tensor& rows) {
        return rows.defined() ? rows.to(at::kFloat) * rows_.root_weights[i] : rows;
      };
      const at::Tensor x = weighed(input(Side::Quantized, hidden_[i], i, context));
      if (!reference_) return hessian.add(x);
      const bool residual = kind == GroupKind::Output || kind == GroupKind::Down;
      hessian.add(x, weighed(input(Side::Reference, reference_->hidden(i, hidden_[i]), i, context)),
                  weighed(residual ? reference_->difference(i) : at::Tensor()));
    });
    solve(layer, kind, originals[static_cast<size_t>(kind)], hessian, reports);
    group_done();
  };
  // What was computed for a Hessian and is needed again behind it, by side and batch.
  std::array<std::vector<at::Tensor>, 2> kept{std::vector<at::Tensor>(hidden_.size()),
                                              std::vector<at::Tensor>(hidden_.size())};
  const auto slot = [&](Side side, size_t i) -> at::Tensor& { return kept[static_cast<size_t>(side)][i]; };
  const auto take = [&](Side side, size_t i) { return std::exchange(slot(side, i), at::Tensor()); };

  calibrate(GroupKind::Qkv, config.hidden_size, [&](Side side, const at::Tensor& hidden, size_t, const auto&) {
    return llama(side).attention_input(layer, hidden);
  });
  calibrate(GroupKind::Output, config.num_heads * config.head_dim,
            [&](Side side, const at::Tensor& hidden, size_t i, const auto& context) {
              return slot(side, i) = llama(side).attend(layer, hidden, context);
            });
  each_batch([&](size_t i, const auto&) {
    advance(i, [&](Side side, const at::Tensor& hidden) {
      return llama(side).after_attention(layer, hidden, take(side, i));
    });
  });
  calibrate(GroupKind::GateUp, config.hidden_size, [&](Side side, const at::Tensor& hidden, size_t, const auto&) {
    return llama(side).mlp_input(layer, hidden);
  });
  const auto element = static_cast<int64_t>(c10::elementSize(llama_->compute_type()));
  const int64_t sides = reference_ ? 2 : 1;
  const bool keep = sides * rows_.num_tokens * config.intermediate_size * element <= options_.keep_bytes;
  calibrate(GroupKind::Down, config.intermediate_size, [&](Side side, const at::Tensor& hidden, size_t i, const auto&) {
    const at::Tensor x = llama(side).activate(layer, hidden);
    if (keep) slot(side, i) = x;
    return x;
  });
  each_batch([&](size_t i, const auto&) {
    advance(i, [&](Side side, const at::Tensor& hidden) {
      return llama(side).after_mlp(layer, hidden, keep ? take(side, i) : llama(side).activate(layer, hidden));
    });
  });
  forget_weights(layer);
  return reports;
}

void LayerQuantizer::solve(int64_t layer, GroupKind kind, const std::vector<at::Tensor>& originals, Hessian& hessian,
                           std::vector<ModuleReport>& reports) {
  const auto& modules = site_group(kind).modules;
  const std::string name = fmt::format("layer {}, {}", layer, fmt::join(modules, "/"));
  std::vector<std::string> paths;
  std::vector<at::Tensor> weights;
  for (size_t i = 0; i < modules.size(); ++i) {
    paths.push_back(module_path(layer, kind, modules[i]));
    weights.push_back(originals[i].to(options_.device));
  }
  GroupSolver::Solved solved = solver_.solve(paths, weights, hessian.finish(name), name);
  int64_t row = 0;
  for (size_t i = 0; i < modules.size(); ++i) {
    const int64_t end = row + weights[i].size(0);
    ModuleReport report;
    report.layer = layer;
    report.module = modules[i];
    report.n = end - row;
    report.k = weights[i].size(1);
    report.error = relative(solved.report.errors, solved.report.energies, row, end);
    report.nearest_error = relative(solved.report.nearest_errors, solved.report.energies, row, end);
    report.damp = solved.report.damp;
    report.damp_raises = solved.report.damp_raises;
    report.dead_inputs = solved.report.dead_inputs;
    if (options_.on_module) options_.on_module(report);
    reports.push_back(std::move(report));
    row = end;
  }
  set_group(*llama_, layer, kind, std::move(solved.matrices));
}

void LayerQuantizer::set_group(model::Llama& llama, int64_t layer, GroupKind kind,
                               std::vector<ops::PackedMatrix> matrices) {
  std::vector<ops::LinearSite> sites;
  for (const auto& module : site_group(kind).modules) sites.push_back({layer, module});
  for (auto& matrix : matrices) matrix = matrix.to(options_.device);
  auto& group = group_of(llama.blocks()[static_cast<size_t>(layer)], kind);
  group = ops::LinearGroup(std::move(matrices), std::move(sites), options_.compute, ops::Residency::Resident);
  group.detach();
}

void LayerQuantizer::forget_weights(int64_t layer) {
  for (const GroupKind kind : kAllGroups) {
    group_of(llama_->blocks()[static_cast<size_t>(layer)], kind) = {};
    if (reference_) group_of(reference_->llama().blocks()[static_cast<size_t>(layer)], kind) = {};
  }
}

void LayerQuantizer::pass_through(int64_t layer,
                                  const std::function<ops::PackedMatrix(const std::string&)>& matrix_of) {
  for (const GroupKind kind : kAllGroups) {
    std::vector<ops::PackedMatrix> matrices;
    for (const auto& module : site_group(kind).modules) matrices.push_back(matrix_of(module_path(layer, kind, module)));
    set_group(*llama_, layer, kind, std::move(matrices));
  }
  if (reference_) set_reference(layer, read_weights(layer));
  // By the same steps as in quantize(): the bits are then the same.
  each_batch([&](size_t i, const model::ForwardContext& context) {
    advance(i, [&](Side side, const at::Tensor& hidden) {
      return llama(side).after_attention(layer, hidden, llama(side).attend(layer, hidden, context));
    });
    advance(i, [&](Side side, const at::Tensor& hidden) {
      return llama(side).after_mlp(layer, hidden, llama(side).activate(layer, hidden));
    });
  });
  forget_weights(layer);
}

}  // namespace slmi::calib
