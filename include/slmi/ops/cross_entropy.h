// Negative log-likelihood of target tokens, with the gradient made in the logits' place.
#pragma once

#include "slmi/ops/tensor.h"

namespace slmi::ops {

enum class CrossEntropyMode { LossOnly, LossAndGradient };

/// loss f32 [P]: -log softmax(logits)[target]. logits [P, V] in the compute type, row-contiguous; targets i32 [P],
/// on a GPU also -1: loss and gradient 0.
/// With LossAndGradient logits become (softmax - onehot) * scale; scale f32 [1] on the same device, undefined: 1.
void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, CrossEntropyMode mode, const at::Tensor& loss,
                   const at::Tensor& scale = {});

/// The most likely token of each row and its log-probability; the lowest id wins a tie. logits [B, V].
void pick_greedy(const at::Tensor& logits, const at::Tensor& ids /* i64 [B] */,
                 const at::Tensor& log_probabilities /* f32 [B] */);

}  // namespace slmi::ops
