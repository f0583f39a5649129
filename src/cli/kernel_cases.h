// What `slmi bench kernels` times: the kernels of a training step and the linears of one layer, at Llama 3.2 1B's
// shapes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "slmi/ops/tensor.h"

namespace slmi::cli {

/// Tokens of a step, and the shapes of Llama 3.2 1B with its adapters.
struct BenchShape {
  static constexpr int64_t kTokens = 4096, kWidth = 2048, kHeads = 32, kKvHeads = 8, kHeadDim = 64, kFfn = 8192,
                           kVocabulary = 128256, kRank = 16, kLayers = 16;
};

/// Puts one launch on the GPU; returns what it allocated, if anything, for the caller to keep while others follow.
using Launch = std::function<at::Tensor()>;

/// A kernel that is bound by the memory.
struct KernelCase {
  std::string name, shape;
  double bytes = 0.0;            // that it has to read and to write, each once
  std::function<Launch()> make;  // a launch over buffers of its own
};

/// bf16 activations, f32 residual stream and norms, as training has them.
std::vector<KernelCase> kernel_cases(at::Device device);

/// The seven projections of a layer, forward and backward (gradients of the inputs and, where there are any, of the
/// adapters).
struct LayerCase {
  std::string name;
  double limit = 0.0;  // of its time over that of the bare products; 0: it has none
  std::function<void()> forward, backward;
};

/// First the bare products of the seven matrices in bf16, second the same with matrices that share an input stacked,
/// then ops::LinearGroup with LoRA, on resident bf16 weights and on NF4.
std::vector<LayerCase> layer_cases(at::Device device);

}  // namespace slmi::cli
