// What an optimizer step has the device do: micro-batches, then the update. On a GPU that takes FlashAttention, batches
// are padded to few sizes, and what recurs is recorded and replayed.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "slmi/comm/communicator.h"
#include "slmi/data/padding.h"
#include "slmi/model/batch.h"
#include "slmi/model/llama.h"
#include "slmi/model/lora.h"
#include "slmi/ops/graph.h"
#include "slmi/ops/optimizer.h"
#include "slmi/ops/stream_mark.h"
#include "slmi/train/config.h"

namespace slmi::train {

/// A step's rows on their way to the device.
struct PreparedStep {
  struct MicroBatch {
    data::PackedBatch rows;
    data::BatchSize size;  // that it was padded to; left empty where nothing is padded
  };
  int64_t step = -1;                          // from 0
  int64_t rows = 0, tokens = 0, targets = 0;  // of all ranks, without padding
  std::vector<MicroBatch> micro_batches;      // of this one
};

/// A step is begun by run() and ended by sums(), in turn.
class StepEngine {
 public:
  struct Sums {
    double loss;  // of all targets, on all ranks
    double gradient_norm;
    int signal = 0;           // SIGTERM or SIGINT that any rank had when the step began, or 0
    double loss_scale = 0.0;  // that the step had; 0: none
    bool skipped = false;     // the gradient overflowed: nothing was updated
  };

  /// `lora` is attached to `llama` and trains.
  StepEngine(model::Llama& llama, model::Lora& lora, const TrainConfig& config, const ops::AdamWOptions& adamw,
             const ops::Moments& moments, comm::Communicator& ranks);

  /// Pads a micro-batch where the device wants it; needs nothing of the device, which may be busy meanwhile.
  PreparedStep::MicroBatch prepare(data::PackedBatch rows) const;
  /// Puts forward and backward of all micro-batches, the sums over all ranks, and the update, on the device.
  /// `learning_rate` is the step's; `signal` one that came to this rank, or 0, for all ranks to know of. Behind a step
  /// that is under way it waits for that one only if some of this one is not recorded yet.
  void run(const PreparedStep& step, double learning_rate, int signal);
  /// Whether a second step may be run before the sums of the first. On a GPU, once the update is recorded: what is not
  /// recorded waits for the device anyway. Not with a loss scale, where the sums say how many steps AdamW has seen. The
  /// same on all ranks that compute in one type.
  bool may_run_ahead() const { return update_graph_ && !loss_scale_; }
  /// Waits for the first of the steps under way, not for one behind it, and gives its sums.
  Sums sums();
  /// Of the next step; there is one where the model computes in f16. Set, the engine goes on from there.
  const std::optional<ops::LossScale>& loss_scale() const { return loss_scale_; }
  void set_loss_scale(const ops::LossScale& state);

 private:
  /// Passes over batches of one padded size.
  struct Recurring {
    explicit Recurring(const data::BatchSize& size, at::Device device) : batch(size, device) {}
    model::FixedBatch batch;
    int64_t seen = 0;
    std::unique_ptr<ops::Graph> graph;
  };

  /// A step's sums on their way to the host.
  struct Readback {
    explicit Readback(at::Device device);
    at::Tensor host;  // f64 [4], pinned: the copy waits for nothing
    ops::StreamMark done;
  };
  static constexpr size_t kMostUnderWay = 2;

  /// Of the micro-batches of a rank the last is the one in which gradients become what the other ranks want.
  enum class Turn { Earlier, Last };
  /// Gradients that are added up over the ranks in one go, as soon as the backward pass has left these layers.
  struct Range {
    int64_t first_layer;
    at::Tensor gradients;
  };

  Turn turn_of(const PreparedStep& step, const PreparedStep::MicroBatch& micro) const;
  bool is_recorded(const PreparedStep& step) const;
  void pass(const PreparedStep::MicroBatch& micro, Turn turn);
  void compute(const model::DeviceBatch& batch, Turn turn);
  void add_up_gradients(int64_t layer);
  void add_up_sums();
  /// What the others expect of a rank that has no rows in a step.
  void add_up_without_rows();
  void update();

  model::Llama& llama_;
  model::Lora& lora_;
  const TrainConfig& config_;
  const ops::AdamWOptions& adamw_;
  const ops::Moments& moments_;
  comm::Communicator& ranks_;
  std::vector<Range> ranges_;  // from the last layers to the first; none for a process without others
  ops::StepNumbers numbers_;
  std::optional<ops::LossScale> loss_scale_;  // as it is on the device when a step is done
  ops::DropoutContext dropout_;
  at::Tensor sums_;                                // f64 [4]: loss, ranks with SIGINT, with SIGTERM; gradient norm
  std::array<Readback, kMostUnderWay> readbacks_;  // used in turn
  size_t begun_ = 0, ended_ = 0;                   // steps
  bool records_ = false;
  int64_t graphs_ = 0, updates_ = 0;
  ops::RopeTable rope_;  // what recorded passes read
  std::unique_ptr<ops::GraphPool> pool_;
  std::map<std::pair<data::BatchSize, Turn>, Recurring> passes_;
  std::unique_ptr<ops::Graph> update_graph_;
};

}  // namespace slmi::train
