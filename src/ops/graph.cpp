// CUDA graphs; see the header.
#include "slmi/ops/graph.h"

#include "slmi/base/error.h"

#ifdef SLMI_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace slmi::ops {

struct GraphPool::State {
  at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
  c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
};

struct Graph::State {
  at::cuda::CUDAGraph graph;
};

Graph::Graph(GraphPool& pool, const std::function<void()>& work) : state_(std::make_unique<State>()) {
  // What the work needed when it ran unrecorded is free now, and the pool is apart from it: without this the two lie
  // side by side in the GPU's memory.
  c10::cuda::getCurrentCUDAStream().synchronize();
  at::cuda::clearCublasWorkspaces();
  c10::cuda::CUDACachingAllocator::emptyCache();
  const c10::cuda::CUDAStreamGuard guard(pool.state().stream);
  state_->graph.capture_begin(pool.state().pool, cudaStreamCaptureModeThreadLocal);
  work();
  state_->graph.capture_end();
}

void Graph::replay() {
  state_->graph.replay();
}

}  // namespace slmi::ops
#else
namespace slmi::ops {

struct GraphPool::State {};
struct Graph::State {};

Graph::Graph(GraphPool&, const std::function<void()>&) {
  fail(ErrorKind::Internal, "recording GPU work: this program was not compiled for GPUs");
}

void Graph::replay() {}

}  // namespace slmi::ops
#endif

namespace slmi::ops {

GraphPool::GraphPool() : state_(std::make_unique<State>()) {}
GraphPool::~GraphPool() = default;
Graph::~Graph() = default;

}  // namespace slmi::ops
