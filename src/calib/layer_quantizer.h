// Quantizes one layer of a model on all calibration tokens, and carries their hidden states through it.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reference_stream.h"
#include "slmi/calib/calibration_rows.h"
#include "slmi/calib/gptq_solver.h"
#include "slmi/calib/hessian.h"
#include "slmi/calib/layer_options.h"
#include "slmi/calib/weight_source.h"
#include "slmi/model/llama.h"

namespace slmi::calib {

/// Matrices that share an input.
struct SiteGroup {
  const char* parent;                // "self_attn"
  std::vector<std::string> modules;  // "q_proj", ...
};
enum class GroupKind { Qkv, Output, GateUp, Down };
inline constexpr int64_t kGroupsPerLayer = 4;
const SiteGroup& site_group(GroupKind kind);
/// "model.layers.3.self_attn.q_proj".
std::string module_path(int64_t layer, GroupKind kind, const std::string& module);

/// Quantizes the matrices of one group, whatever their form.
class GroupSolver {
 public:
  virtual ~GroupSolver() = default;
  struct Solved {
    std::vector<ops::PackedMatrix> matrices;  // on any device, in the order of the paths
    SolverReport report;                      // of all rows, one matrix behind the other
  };
  /// @param paths    "model.layers.3.self_attn.q_proj", ...
  /// @param weights  f32 [N, K] each, on the device of the inputs.
  /// @param name     of the group, for errors.
  virtual Solved solve(const std::vector<std::string>& paths, const std::vector<at::Tensor>& weights,
                       InputStatistics inputs, const std::string& name) = 0;
};

/// Holds a model without block weights and the hidden states before the next layer; where weights make up for drift,
/// those of the unquantized model too.
class LayerQuantizer {
 public:
  /// Loads all but the layers (the embedding as f16) and embeds all tokens. Everything given must outlive this.
  LayerQuantizer(const formats::Checkpoint& checkpoint, const WeightSource& weights, const CalibrationRows& rows,
                 const LayerOptions& options, const SolverOptions& solver_options, GroupSolver& solver);

  /// Layers come in order, each by one of these two. `group_done` is called four times.
  std::vector<ModuleReport> quantize(int64_t layer, const std::function<void()>& group_done);
  void pass_through(int64_t layer, const std::function<ops::PackedMatrix(const std::string& path)>& matrix_of);

 private:
  /// f32 [N, K] on the CPU, in the order of site_group(kind).
  using Weights = std::array<std::vector<at::Tensor>, kGroupsPerLayer>;
  Weights read_weights(int64_t layer) const;
  void set_reference(int64_t layer, const Weights& weights);
  void solve(int64_t layer, GroupKind kind, const std::vector<at::Tensor>& originals, Hessian& hessian,
             std::vector<ModuleReport>& reports);
  void set_group(model::Llama& llama, int64_t layer, GroupKind kind, std::vector<ops::PackedMatrix> matrices);
  void forget_weights(int64_t layer);
  template <class Body>
  void each_batch(const Body& body);
  enum class Side { Quantized, Reference };
  model::Llama& llama(Side side) { return side == Side::Quantized ? *llama_ : reference_->llama(); }
  template <class Step>
  void advance(size_t batch, const Step& step);

  std::shared_ptr<model::Llama> llama_;
  const WeightSource& weights_;
  const CalibrationRows& rows_;
  const LayerOptions& options_;
  GroupSolver& solver_;
  std::vector<at::Tensor> hidden_;  // f32 [T, D] a batch: before the layer, inside it after attention
  std::optional<ReferenceStream> reference_;
};

}  // namespace slmi::calib
