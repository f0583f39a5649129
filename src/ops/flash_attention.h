// Attention of packed rows through libtorch's FlashAttention-2 (Dao 2023, arXiv:2307.08691), on GPUs from sm_80 on.
#pragma once

#include "slmi/ops/attention.h"

namespace slmi::ops {

/// 16-bit tensors on such a GPU, a head width that it takes, and segments over their own keys.
bool flash_fits(const at::Tensor& q, const at::Tensor& k, const AttentionShape& shape, const AttentionPlan& plan);

/// As attention_forward and attention_backward. Rows that share a prefix get two softmaxes, of their own keys and of
/// the prefix's, merged by their log-sum-exp.
at::Tensor flash_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                         const AttentionPlan::Flash& plan, const at::Tensor& out, const at::Tensor& lse);
void flash_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const at::Tensor& out, const at::Tensor& lse, const AttentionShape& shape,
                    const AttentionPlan::Flash& plan, const std::optional<Rotation>& rotation, const at::Tensor& dq,
                    const at::Tensor& dk, const at::Tensor& dv);

}  // namespace slmi::ops
