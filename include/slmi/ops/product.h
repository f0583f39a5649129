// Products of activations with a dense weight matrix.
#pragma once

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// y [T, N] = x [T, K] W^T, W [N, K]; columns next to each other in all three. In f32 on a CPU few rows, as in
/// decoding, go through kernels/cpu/gemv.h: libtorch's product would pack W first, which takes longer than the product
/// itself. All else is libtorch's.
void product_into(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y);

}  // namespace slmi::ops
