// One micro-batch forward and backward.
#pragma once

#include <functional>

#include "slmi/model/batch.h"
#include "slmi/model/llama.h"

namespace slmi::train {

/// Adds the gradient of the *sum* of the target losses, times `scale` (f32 [1]; undefined: 1), to the adapters'
/// gradient buffer and returns that sum, not scaled: f64 [], on the model's device, which is not waited for. Only the
/// first block's input gradient is not made: the embedding is frozen. `after_backward` is called when a layer's adapter
/// gradients are on the device's stream, from the last layer to the first.
at::Tensor forward_backward(model::Llama& llama, const model::DeviceBatch& batch, model::SavePolicy save,
                            const ops::DropoutContext* dropout, const at::Tensor& scale = {},
                            const std::function<void(int64_t layer)>& after_backward = {});

}  // namespace slmi::train
