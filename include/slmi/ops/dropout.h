// Counter-based dropout of the adapters' inputs.
#pragma once

#include <cstdint>
#include <string>

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// Where a matrix sits: names its messages and its adapter.
struct LinearSite {
  int64_t layer = -1;
  std::string module;  // "q_proj", ...
};

/// A mask that depends on (seed, step, site, row, position, channel) alone, so that packed and single, shared and
/// unshared, resumed and sharded runs drop the same elements. The adapters of a group share their input and its mask.
struct DropoutContext {
  double probability = 0.0;
  uint64_t seed = 0;
  int64_t step = 0;
  at::Tensor step_on_device;  // i64 [1], the same number: what a GPU reads, so that a recorded pass serves every step
  at::Tensor row_keys;        // i64 [T]: data-set row, or the hash of the row's instruction for tokens inside that
  at::Tensor positions;       // i32 [T]
};

/// Number of a site for the counter: layer and input group (q, k and v share one; gate and up share one).
uint32_t site_number(const LinearSite& site);

/// out = x / (1 - p) where the mask keeps an element, else 0. x and out [T, K], rows may be strided.
void apply_dropout(const at::Tensor& x, const DropoutContext& dropout, uint32_t site, const at::Tensor& out);

}  // namespace slmi::ops
