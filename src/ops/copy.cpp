// Strided copies; see the header.
#include "slmi/ops/copy.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "slmi/kernels/cuda/lora.h"

namespace slmi::ops {

void copy_rows(const at::Tensor& x, const at::Tensor& out) {
  bool done = false;
  if (x.scalar_type() == out.scalar_type() && x.stride(1) == 1)
    on_16_bits(out, [&](auto tag, auto stream) {
      using T = Element<decltype(tag)>;
      kernels::cuda::copy_rows(pointer<const T>(x), x.stride(0), x.size(0), x.size(1), pointer<T>(out), out.stride(0),
                               stream);
      done = true;
    });
  if (!done) out.copy_(x);
}

}  // namespace slmi::ops
