// The same bits from run to run on a GPU.
#pragma once

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// While it lives, everything that a GPU computes here sums in an order that does not change from run to run. Our
/// kernels always do, and cuBLAS, which libtorch gives each stream a workspace of its own. Of libtorch's operations
/// FlashAttention's backward pass, index_add, index_copy and scatter have such a form beside the usual one, slower and
/// in more memory; one that has none throws c10::Error("... does not have a deterministic implementation ...").
/// Does nothing for a CPU, where runs agree already. One at a time: libtorch has the setting once a process.
class Deterministic {
 public:
  explicit Deterministic(at::Device device);
  ~Deterministic();
  Deterministic(const Deterministic&) = delete;
  Deterministic& operator=(const Deterministic&) = delete;

 private:
  bool had_algorithms_, had_fill_;
};

}  // namespace slmi::ops
