// Attention of short packed rows through our own kernels: FlashAttention fills its tiles with one head's rows, which
// are few here, and needs a second pass and a merge for a shared prefix.
#pragma once

#include "slmi/ops/attention.h"

namespace slmi::ops {

/// What flash_fits asks for, segments short enough that our kernels are the faster ones, and layouts that they take.
bool packed_fits(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                 const AttentionShape& shape, const AttentionPlan& plan);
bool packed_takes_gradients(const at::Tensor& d_out, const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv);

/// As attention_forward and attention_backward.
void packed_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                    const AttentionPlan::Flash& plan, const at::Tensor& out, const at::Tensor& lse);
void packed_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& out, const at::Tensor& lse, const AttentionShape& shape,
                     const AttentionPlan::Flash& plan, const at::Tensor& dq, const at::Tensor& dk,
                     const at::Tensor& dv);

}  // namespace slmi::ops
