// Progress of a job in stages ("load", "answers", ...), one live line each, and the check for a signal at each step.
#pragma once

#include <csignal>
#include <optional>
#include <string>

#include "runtime.h"
#include "slmi/base/error.h"
#include "slmi/base/progress.h"
#include "slmi/eval/measure.h"

namespace slmi::cli {

class StageProgress {
 public:
  /// `on_stop`: what is told when a signal arrived.
  StageProgress(Runtime& rt, std::string on_stop) : rt_(rt), on_stop_(std::move(on_stop)) {}

  /// @throws Error{Interrupted|Terminated} if a signal has arrived.
  void update(const std::string& stage, const char* unit, int64_t done, int64_t total) {
    if (rt_.signal != 0)
      fail(rt_.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated, "stopped; {}", on_stop_);
    if (stage != stage_) {
      finish();
      stage_ = stage;
      if (total > 1) progress_.emplace(stage, unit, total);
    }
    if (progress_) progress_->update(done);
  }
  void finish() {
    if (progress_) progress_->finish();
    progress_.reset();
    stage_.clear();
  }
  /// For measuring models; valid as long as this.
  eval::MeasureHooks hooks() {
    return {[this](const std::string& stage, int64_t done, int64_t total) { update(stage, "rows", done, total); },
            &rt_.signal};
  }

 private:
  Runtime& rt_;
  std::string on_stop_, stage_;
  std::optional<Progress> progress_;
};

}  // namespace slmi::cli
