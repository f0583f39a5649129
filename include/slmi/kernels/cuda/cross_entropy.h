// Negative log-likelihood of target tokens with its gradient on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

// loss[p] = lse[p] - logits[p][targets[p]],  lse[p] = log(sum_v exp(logits[p][v]))
//
// Shapes    logits T [rows, vocabulary]; targets i32 [rows], each in [0, vocabulary), or -1: loss and gradient 0 (rows
//           that fill up a batch of fixed size); loss f32 [rows].
// Numerics  a NaN or +inf logit gives loss NaN; logits of -inf count as probability 0.
template <class T>
void cross_entropy_loss(const T* logits, int64_t stride, int64_t rows, int64_t vocabulary, const int32_t* targets,
                        float* loss, Stream stream);

// The same, and logits[p] = (softmax(logits[p]) - onehot(targets[p])) * scale in the logits' place.
//
// Shapes    scale one f32 in device memory, or null: 1.
template <class T>
void cross_entropy_gradient(T* logits, int64_t stride, int64_t rows, int64_t vocabulary, const int32_t* targets,
                            const float* scale, float* loss, Stream stream);

}  // namespace slmi::kernels::cuda
