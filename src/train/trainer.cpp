// The training loop; see the header.
#include "slmi/train/trainer.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <deque>
#include <fstream>

#include "slmi/base/atomic_file.h"
#include "slmi/base/clock.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/data/packing.h"
#include "slmi/ops/deterministic.h"
#include "slmi/ops/optimizer.h"
#include "slmi/train/schedule.h"
#include "step_engine.h"

namespace slmi::train {
namespace {

namespace fs = std::filesystem;

/// A JSONL file that is appended to; on resume it is cut to what the checkpoint knew.
class LineFile {
 public:
  LineFile(const fs::path& path, uint64_t keep_bytes) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    require(fd_ >= 0, ErrorKind::Output, "{}: cannot open: {}", path.string(), std::strerror(errno));
    const off_t size = ::lseek(fd_, 0, SEEK_END);
    require(static_cast<uint64_t>(size) >= keep_bytes, ErrorKind::Input,
            "{}: has {} bytes, the checkpoint was written when it had {}; was it edited?", path.string(), size,
            keep_bytes);
    const bool cut = ::ftruncate(fd_, static_cast<off_t>(keep_bytes)) == 0 && ::lseek(fd_, 0, SEEK_END) >= 0;
    require(cut, ErrorKind::Output, "{}: cannot cut to {} bytes: {}", path.string(), keep_bytes, std::strerror(errno));
    bytes_ = keep_bytes;
  }
  ~LineFile() { ::close(fd_); }
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  void append(const Json& value) {
    const std::string line = value.dump() + "\n";
    size_t done = 0;
    while (done < line.size()) {
      const ssize_t n = ::write(fd_, line.data() + done, line.size() - done);
      if (n < 0 && errno == EINTR) continue;
      require(n >= 0, ErrorKind::Output, "{}: cannot write: {}", path_.string(), std::strerror(errno));
      done += static_cast<size_t>(n);
    }
    bytes_ += line.size();
  }
  uint64_t bytes() const { return bytes_; }

 private:
  fs::path path_;
  int fd_ = -1;
  uint64_t bytes_ = 0;
};

/// A line of metrics.jsonl. The norm of a skipped step is not finite, and null there.
Json metrics_of(const StepRecord& r) {
  Json out = {{"step", r.step}, {"loss", r.loss},     {"lr", r.learning_rate}, {"grad_norm", r.gradient_norm},
              {"rows", r.rows}, {"tokens", r.tokens}, {"targets", r.targets}};
  if (r.loss_scale > 0.0) {
    out["loss_scale"] = r.loss_scale;
    out["skipped"] = r.skipped;
  }
  return out;
}

Milestones milestones_of(const TrainConfig& config, const Hooks& hooks, int64_t steps_per_epoch, int64_t total) {
  Milestones out{.last = total, .checkpoint_every = config.checkpoint_every, .pause_after = hooks.pause_after};
  if (hooks.validate) out.validate_every = config.eval_every > 0 ? config.eval_every : steps_per_epoch;
  return out;
}

class Run {
 public:
  Run(model::Llama& llama, model::Lora& lora, const data::EncodedDataset& rows, const TrainConfig& config,
      const fs::path& run, const Hooks& hooks, comm::Communicator& ranks)
      : llama_(llama),
        lora_(lora),
        rows_(rows),
        config_(config),
        run_(run),
        hooks_(hooks),
        ranks_(ranks),
        moments_(lora.values(), config.optimizer),
        adamw_{.beta2 = config.adam_beta2, .weight_decay = config.weight_decay},
        engine_(llama, lora, config, adamw_, moments_, ranks),
        plan_(data::make_plan(rows, config.batch_size, static_cast<uint64_t>(config.seed), config.rows_together)),
        total_(total_steps(config, rows.size())),
        milestones_(milestones_of(config, hooks, data::steps_per_epoch(plan_), total_)) {}

  TrainResult execute();

 private:
  PreparedStep prepare(int64_t step) const;
  void begin(int64_t step);
  bool may_run_ahead_of(int64_t step) const;
  StepRecord optimizer_step(int64_t step);
  /// On rank 0 from its checkpoint, if there is one; on the others from rank 0.
  void load();
  void write_step(const StepRecord& r);
  void validate(int64_t step);
  void save_best();
  void checkpoint();
  int own_signal() const { return hooks_.signal != nullptr ? hooks_.signal->load() : 0; }

  model::Llama& llama_;
  model::Lora& lora_;
  const data::EncodedDataset& rows_;
  const TrainConfig& config_;
  fs::path run_;
  const Hooks& hooks_;
  comm::Communicator& ranks_;
  std::optional<LineFile> metrics_;  // of rank 0
  std::ofstream timing_;
  ops::Moments moments_;
  ops::AdamWOptions adamw_;
  StepEngine engine_;
  PreparedStep prepared_;
  std::deque<StepRecord> under_way_;  // what is known of steps that have begun; on a GPU two, where it runs ahead
  double step_start_s_ = 0.0;
  data::StepPlan plan_;
  int64_t total_;
  Milestones milestones_;
  RunState state_;
  int signal_ = 0;  // that any rank had when the last step began, or this one has now if it is alone
  TrainResult result_;
  double tail_loss_ = 0.0;
  int64_t tail_steps_ = 0;
};

PreparedStep Run::prepare(int64_t step) const {
  const int64_t per_epoch = data::steps_per_epoch(plan_);
  const auto rows = data::plan_step(plan_, step / per_epoch, step % per_epoch);
  const auto sharing = config_.shared_prefix ? data::SharedPrefix::On : data::SharedPrefix::Off;
  PreparedStep out;
  out.step = step;
  out.rows = static_cast<int64_t>(rows.size());
  out.targets = data::count_targets(rows_, rows);
  const auto all = data::cut_into_micro_batches(rows_, rows, {config_.micro_tokens, sharing, ranks_.size()});
  for (const auto& micro : all) out.tokens += data::count_tokens(rows_, micro, sharing);
  for (const int64_t i : data::deal_to_rank(static_cast<int64_t>(all.size()), ranks_.rank(), ranks_.size()))
    out.micro_batches.push_back(engine_.prepare(data::pack(rows_, all[static_cast<size_t>(i)], sharing)));
  return out;
}

/// Forward and backward over the step's micro-batches, then one update. `step` counts from 0. While the device is busy
/// with it the next step's rows are laid out.
void Run::begin(int64_t step) {
  if (prepared_.step != step) prepared_ = prepare(step);
  StepRecord& record = under_way_.emplace_back();
  record.step = step + 1;
  record.rows = prepared_.rows;
  record.tokens = prepared_.tokens;
  record.targets = prepared_.targets;
  record.micro_batches = static_cast<int64_t>(prepared_.micro_batches.size());
  record.learning_rate = learning_rate(config_, step, total_);
  engine_.run(prepared_, record.learning_rate, own_signal());
  if (step + 1 < total_) prepared_ = prepare(step + 1);
}

/// Whether the next step may begin before the sums of this one are there. The same on all ranks, which must begin the
/// same steps: a signal counts once all have heard of it.
bool Run::may_run_ahead_of(int64_t step) const {
  return engine_.may_run_ahead() && signal_ == 0 && !milestones_.any_after(step + 1);
}

/// A step to its end; it may have begun already. So does the next one, where it may, before this one's sums are waited
/// for: the device goes on with it while the host writes down what this one gave.
StepRecord Run::optimizer_step(int64_t step) {
  if (under_way_.empty()) {
    step_start_s_ = now_s();
    begin(step);
  }
  if (may_run_ahead_of(step)) begin(step + 1);
  const auto sums = engine_.sums();
  StepRecord record = under_way_.front();
  under_way_.pop_front();
  record.loss = sums.loss / static_cast<double>(record.targets);
  record.gradient_norm = sums.gradient_norm;
  record.loss_scale = sums.loss_scale;
  record.skipped = sums.skipped;
  signal_ = sums.signal;
  // A gradient of the loss itself, not scaled up, leaves f16's range in a run that went astray.
  const bool may_skip = record.skipped && record.loss_scale > 1.0;
  require(std::isfinite(record.loss) && (std::isfinite(record.gradient_norm) || may_skip), ErrorKind::Numeric,
          "step {}: loss {} and gradient norm {}; training stopped, {}; lower --lr (now {}) or use --compute f32",
          record.step, record.loss, record.gradient_norm,
          state_.step > 0 ? "the checkpoints before it are whole" : "nothing was saved yet", config_.lr);
  const double end = now_s();
  record.seconds = end - step_start_s_;
  step_start_s_ = end;
  return record;
}

void Run::save_best() {
  if (ranks_.first()) hooks_.save_adapter(run_ / "adapter");
}

void Run::validate(int64_t step) {
  const double start = now_s();
  const Validation v = hooks_.validate(step);
  result_.validation_seconds += now_s() - start;
  const bool best = v.exact_match > state_.best_exact_match ||
                    (v.exact_match == state_.best_exact_match && v.loss < state_.best_loss);
  state_.validations_since_best = best ? 0 : state_.validations_since_best + 1;
  if (best) {
    state_.best_exact_match = v.exact_match;
    state_.best_loss = v.loss;
    state_.best_step = step;
    save_best();
  }
  if (metrics_)
    metrics_->append({{"step", step},
                      {"val_loss", v.loss},
                      {"val_exact_match", v.exact_match},
                      {"val_rows", v.rows},
                      {"best", best}});
  if (hooks_.on_validation) hooks_.on_validation(v, best);
}

void Run::checkpoint() {
  if (!ranks_.first()) return;
  state_.metrics_bytes = metrics_->bytes();
  state_.loss_scale = engine_.loss_scale();
  save_checkpoint(run_, state_, lora_.values(), moments_, config_.keep_checkpoints);
}

void Run::load() {
  if (ranks_.first()) {
    slmi::create_directories(run_);
    if (const auto found = load_checkpoint(run_, lora_.values(), moments_)) state_ = *found;
    metrics_.emplace(run_ / "metrics.jsonl", state_.metrics_bytes);
    timing_.open(run_ / "timing.jsonl", std::ios::app);
  }
  if (ranks_.size() > 1) {
    state_ = to_run_state(ranks_.all_gather(to_text(state_)).front(), "rank 0");
    ranks_.broadcast(lora_.values());
    for (const auto& plane : {moments_.m, moments_.v, moments_.m_absmax, moments_.v_absmax})
      if (plane.defined()) ranks_.broadcast(plane);
  }
  if (state_.loss_scale) engine_.set_loss_scale(*state_.loss_scale);
  llama_.refresh_adapters();
  result_.resumed_from = state_.step;
}

void Run::write_step(const StepRecord& r) {
  if (!metrics_) return;
  metrics_->append(metrics_of(r));
  timing_ << Json({{"step", r.step}, {"seconds", r.seconds}, {"micro_batches", r.micro_batches}}).dump() << "\n";
}

TrainResult Run::execute() {
  load();
  while (!state_.finished && state_.step < total_) {
    const StepRecord r = optimizer_step(state_.step);
    state_.step = r.step;
    write_step(r);
    result_.rows += r.rows;
    result_.tokens += r.tokens;
    result_.targets += r.targets;
    result_.seconds += r.seconds;
    if (10 * r.step > 9 * total_) {
      tail_loss_ += r.loss;
      ++tail_steps_;
    }
    if (hooks_.on_step) hooks_.on_step(r, total_);
    if (milestones_.validates(r.step)) validate(r.step);
    state_.finished = r.step == total_ || (config_.patience > 0 && state_.validations_since_best >= config_.patience);
    if (state_.finished && !hooks_.validate) save_best();
    if (ranks_.size() == 1) signal_ = own_signal();  // one that came during validation too
    const bool stops = signal_ != 0 && under_way_.empty();
    if (milestones_.checkpoints(r.step) || state_.finished || stops) checkpoint();
    if (state_.finished || stops) ranks_.barrier();  // the others wait for what rank 0 writes
    if (stops && !state_.finished)
      fail(signal_ == SIGTERM ? ErrorKind::Terminated : ErrorKind::Interrupted,
           "stopped after step {} of {}; a checkpoint is written: go on with slmi train --resume {}", r.step, total_,
           run_.string());
  }
  result_.steps = state_.step;
  if (engine_.loss_scale()) result_.skipped_steps = static_cast<int64_t>(engine_.loss_scale()->skipped_steps);
  if (tail_steps_ > 0) result_.final_loss = tail_loss_ / static_cast<double>(tail_steps_);
  if (state_.best_step >= 0) result_.best_exact_match = state_.best_exact_match;
  result_.best_step = state_.best_step >= 0 ? state_.best_step : state_.step;
  return result_;
}

}  // namespace

int64_t total_steps(const TrainConfig& config, int64_t num_rows) {
  data::StepPlan plan;
  plan.num_rows = num_rows;
  plan.batch_size = config.batch_size;
  const auto by_epochs =
      static_cast<int64_t>(std::ceil(config.epochs * static_cast<double>(data::steps_per_epoch(plan)) - 1e-9));
  return config.max_steps > 0 ? std::min(config.max_steps, by_epochs) : std::max<int64_t>(1, by_epochs);
}

TrainResult train(model::Llama& llama, model::Lora& lora, const data::EncodedDataset& rows, const TrainConfig& config,
                  const fs::path& run, const Hooks& hooks, comm::Communicator& ranks) {
  std::optional<ops::Deterministic> deterministic;
  if (config.deterministic) deterministic.emplace(llama.device());
  return Run(llama, lora, rows, config, run, hooks, ranks).execute();
}

}  // namespace slmi::train
