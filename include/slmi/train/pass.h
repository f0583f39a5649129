// One micro-batch forward and backward.
#pragma once

#include "slmi/model/batch.h"
#include "slmi/model/llama.h"

namespace slmi::train {

/// Adds the gradient of the *sum* of the target losses, times `scale` (f32 [1]; undefined: 1), to the adapters'
/// gradient buffer and returns that sum, not scaled: f64 [], on the model's device, which is not waited for. Only the
/// first block's input gradient is not made: the embedding is frozen.
at::Tensor forward_backward(model::Llama& llama, const model::DeviceBatch& batch, model::SavePolicy save,
                            const ops::DropoutContext* dropout, const at::Tensor& scale = {});

}  // namespace slmi::train
