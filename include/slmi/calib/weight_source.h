// Weights to quantize, whatever they are made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "slmi/formats/checkpoint.h"
#include "slmi/model/merged_weights.h"

namespace slmi::calib {

/// A tensor by its Hugging Face name, f32 [N, K] on the CPU; a norm is one row. Called once a tensor and use.
using WeightSource = std::function<at::Tensor(const std::string& name)>;

/// Those of a model with its adapter put in; `weights` must outlive the source.
WeightSource weights_of(const model::MergedWeights& weights);

/// A tensor that is not quantized (norm, embedding, head) as `dtype`, made when its turn to be written comes: rounded
/// once, an Error{Numeric} if that is not finite; a norm stays f32 where `dtype` cannot hold it (model::written_dtype).
/// `weights` must outlive the tensor.
formats::OutputTensor number_tensor(const std::string& name, const formats::Shape& shape, formats::Dtype dtype,
                                    const formats::Checkpoint& checkpoint, const WeightSource& weights);

}  // namespace slmi::calib
