// Steps on the device; see the header.
#include "step_engine.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <csignal>

#include "slmi/base/error.h"
#include "slmi/train/pass.h"

namespace slmi::train {
namespace {

/// The more of them, the less is left to wait for when the backward pass is done; each costs tens of microseconds.
constexpr int64_t kRanges = 4;
constexpr int64_t kMostGraphs = 64;  // each holds a description of its launches, some megabytes

enum Sum { Loss, Interrupted, Terminated, kOverRanks, GradientNorm = kOverRanks, kSums };

}  // namespace

StepEngine::Readback::Readback(at::Device device)
    : host(at::zeros({kSums}, at::TensorOptions().dtype(at::kDouble).pinned_memory(!device.is_cpu()))), done(device) {}

StepEngine::StepEngine(model::Llama& llama, model::Lora& lora, const TrainConfig& config,
                       const ops::AdamWOptions& adamw, const ops::Moments& moments, comm::Communicator& ranks)
    : llama_(llama),
      lora_(lora),
      config_(config),
      adamw_(adamw),
      moments_(moments),
      ranks_(ranks),
      numbers_(llama.device()),
      sums_(at::zeros({kSums}, at::TensorOptions().dtype(at::kDouble).device(llama.device()))),
      readbacks_{{Readback(llama.device()), Readback(llama.device())}} {
  dropout_.probability = config.lora.dropout;
  dropout_.seed = static_cast<uint64_t>(config.seed);
  const auto device = llama.device();
  if (!device.is_cpu()) dropout_.step_on_device = at::zeros({1}, at::TensorOptions().dtype(at::kLong).device(device));
  if (llama.compute_type() == at::kHalf) set_loss_scale({.scale = static_cast<float>(config.initial_loss_scale)});
  const int64_t layers = llama.config().num_layers, count = ranks.connected() ? std::min(kRanges, layers) : 0;
  for (int64_t i = count; i > 0; --i) {
    const int64_t first = (i - 1) * layers / count, last = i * layers / count;
    ranges_.push_back({first, lora.gradients(first, last)});
  }
  records_ = config.cuda_graphs && ops::flash_serves(device, llama.compute_type(), llama.attention_shape());
  if (!records_) return;
  pool_ = std::make_unique<ops::GraphPool>();
  llama.reserve_positions(config.max_seq_len);
  rope_ = llama.rope();
}

void StepEngine::set_loss_scale(const ops::LossScale& state) {
  loss_scale_ = state;
  numbers_.set_loss_scale(state);
}

/// All batches are padded alike, so that recorded or not gives the same numbers.
PreparedStep::MicroBatch StepEngine::prepare(data::PackedBatch rows) const {
  PreparedStep::MicroBatch out{std::move(rows), {}};
  if (!records_) return out;
  out.size = data::padded_size(data::size_of(out.rows));
  data::pad(out.rows, out.size);
  return out;
}

StepEngine::Turn StepEngine::turn_of(const PreparedStep& step, const PreparedStep::MicroBatch& micro) const {
  return ranks_.connected() && &micro == &step.micro_batches.back() ? Turn::Last : Turn::Earlier;
}

bool StepEngine::is_recorded(const PreparedStep& step) const {
  return std::ranges::all_of(step.micro_batches, [&](const auto& micro) {
    const auto found = passes_.find({micro.size, turn_of(step, micro)});
    return found != passes_.end() && found->second.graph;
  });
}

void StepEngine::run(const PreparedStep& step, double learning_rate, int signal) {
  require(begun_ - ended_ < kMostUnderWay, ErrorKind::Internal, "step {} while {} are under way", step.step,
          kMostUnderWay);
  // Recording waits for the stream, launches by the thousand and a library's first use may: none would see a lost rank.
  if (begun_ > ended_ && !is_recorded(step)) ranks_.synchronize();
  dropout_.step = step.step;
  if (dropout_.step_on_device.defined()) dropout_.step_on_device.fill_(step.step);
  const auto skipped = loss_scale_ ? static_cast<int64_t>(loss_scale_->skipped_steps) : 0;  // AdamW never saw these
  numbers_.set(learning_rate, step.step + 1 - skipped, step.targets, config_.max_grad_norm, adamw_);
  sums_.zero_();
  if (signal != 0) sums_[signal == SIGTERM ? Terminated : Interrupted].fill_(1.0);
  for (const auto& micro : step.micro_batches) pass(micro, turn_of(step, micro));
  if (step.micro_batches.empty() && ranks_.connected()) add_up_without_rows();
  if (records_ && updates_++ == 1) {
    ranks_.synchronize();  // recording waits for the stream
    update_graph_ = std::make_unique<ops::Graph>(*pool_, [&] { update(); });
  }
  update_graph_ ? update_graph_->replay() : update();
  Readback& readback = readbacks_[begun_++ % kMostUnderWay];
  readback.host.copy_(sums_, /*non_blocking=*/true);
  readback.done.record();
}

/// The first batch of a size runs as it comes, which also has every library make what it makes on first use; the second
/// is recorded.
void StepEngine::pass(const PreparedStep::MicroBatch& micro, Turn turn) {
  if (!records_) return compute(model::to_device(micro.rows, llama_.device()), turn);
  auto& recurring = passes_.try_emplace({micro.size, turn}, micro.size, llama_.device()).first->second;
  recurring.batch.upload(micro.rows);
  if (!recurring.graph && ++recurring.seen > 1 && graphs_ < kMostGraphs) {
    recurring.graph = std::make_unique<ops::Graph>(*pool_, [&] { compute(recurring.batch.batch(), turn); });
    ++graphs_;
  }
  recurring.graph ? recurring.graph->replay() : compute(recurring.batch.batch(), turn);
}

void StepEngine::compute(const model::DeviceBatch& batch, Turn turn) {
  std::function<void(int64_t)> after_backward;
  if (turn == Turn::Last) after_backward = [&](int64_t layer) { add_up_gradients(layer); };
  sums_[Loss].add_(
      forward_backward(llama_, batch, config_.activations, &dropout_, numbers_.loss_factor(), after_backward));
  if (turn == Turn::Last) add_up_sums();
}

void StepEngine::add_up_gradients(int64_t layer) {
  for (const auto& range : ranges_)
    if (range.first_layer == layer) ranks_.all_reduce_start(range.gradients);
}

void StepEngine::add_up_sums() {
  ranks_.all_reduce_start(sums_.narrow(0, 0, kOverRanks));
  ranks_.wait();
}

void StepEngine::add_up_without_rows() {
  for (const auto& range : ranges_) ranks_.all_reduce_start(range.gradients);
  add_up_sums();
}

void StepEngine::update() {
  ops::measure_gradient(lora_.gradients(), numbers_);
  sums_[GradientNorm].copy_(numbers_.values[ops::StepNumbers::GradientNorm]);
  ops::adamw_step(lora_.values(), lora_.gradients(), moments_, adamw_, numbers_);
  llama_.refresh_adapters();
}

StepEngine::Sums StepEngine::sums() {
  const Readback& readback = readbacks_[ended_++ % kMostUnderWay];
  ranks_.wait_for(readback.done);
  const at::Tensor& host = readback.host;
  Sums out = {host[Loss].item<double>(), host[GradientNorm].item<double>()};
  if (host[Interrupted].item<double>() > 0.0) out.signal = SIGINT;
  if (host[Terminated].item<double>() > 0.0) out.signal = SIGTERM;
  if (!loss_scale_) return out;
  out.loss_scale = loss_scale_->scale;
  loss_scale_ = numbers_.get_loss_scale();
  out.skipped = loss_scale_->skip != 0.0f;
  return out;
}

}  // namespace slmi::train
