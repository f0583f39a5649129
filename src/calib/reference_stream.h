// The unquantized model beside the one that is being quantized: what its hidden states would be.
#pragma once

#include <vector>

#include "slmi/model/llama.h"

namespace slmi::calib {

/// Runs one layer behind the other model's: the caller gives each layer's groups their unquantized weights. Hidden
/// states are held as differences to the quantized model's, in the compute type: small numbers, so that 16 bits do.
class ReferenceStream {
 public:
  /// A model without block weights; embedding and norms are shared with `llama`.
  ReferenceStream(const model::Llama& llama, size_t num_batches);

  model::Llama& llama() { return llama_; }
  /// f32 [T, D]; `own` is the quantized model's at the same place.
  at::Tensor hidden(size_t batch, const at::Tensor& own) const;
  /// The unquantized model's minus the quantized one's, [T, D]; undefined where they are the same.
  const at::Tensor& difference(size_t batch) const { return difference_[batch]; }
  void keep(size_t batch, const at::Tensor& hidden, const at::Tensor& own);

 private:
  model::Llama llama_;
  std::vector<at::Tensor> difference_;  // [T, D] a batch; undefined: none yet
};

}  // namespace slmi::calib
