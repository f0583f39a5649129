// A place in the work that a GPU was given: for a host that waits for a part of it (CUDA events, through libtorch).
#pragma once

#include <memory>

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// Can be recorded again and again: the last time counts. Never recorded, and on a CPU, it is reached.
class StreamMark {
 public:
  explicit StreamMark(at::Device device);
  ~StreamMark();
  StreamMark(const StreamMark&) = delete;
  StreamMark& operator=(const StreamMark&) = delete;
  /// Comes after all that the current stream holds. The host goes on.
  void record();
  bool reached() const;
  void wait() const;

 private:
  struct State;
  std::unique_ptr<State> state_;  // null on a CPU
};

}  // namespace slmi::ops
