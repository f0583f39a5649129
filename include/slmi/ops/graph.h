// Work on a GPU, recorded once and replayed: one launch instead of thousands (CUDA graphs, through libtorch).
#pragma once

#include <functional>
#include <memory>

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// Graphs that are never replayed at the same time and keep nothing in memory of their own between replays: they share
/// one pool of it.
class GraphPool {
 public:
  GraphPool();
  ~GraphPool();
  struct State;
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

/// Recorded work. Tensors that it reads or writes outside of itself must stay where they are as long as it lives;
/// numbers that differ from replay to replay must be in device memory.
class Graph {
 public:
  /// Runs `work`, recording what it puts on the GPU instead of doing it. The work must not wait for the GPU.
  Graph(GraphPool& pool, const std::function<void()>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  /// Puts all of it on the current stream.
  void replay();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slmi::ops
