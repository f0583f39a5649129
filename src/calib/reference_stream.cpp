// Differences of hidden states; see the header.
#include "reference_stream.h"

namespace slmi::calib {

ReferenceStream::ReferenceStream(const model::Llama& llama, size_t num_batches)
    : llama_(llama), difference_(num_batches) {}

at::Tensor ReferenceStream::hidden(size_t batch, const at::Tensor& own) const {
  return difference_[batch].defined() ? own + difference_[batch] : own;
}

void ReferenceStream::keep(size_t batch, const at::Tensor& hidden, const at::Tensor& own) {
  difference_[batch] = (hidden - own).to(llama_.compute_type());
}

}  // namespace slmi::calib
