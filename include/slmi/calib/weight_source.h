// Weights to quantize, whatever they are made of.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "slmi/model/merged_weights.h"

namespace slmi::calib {

/// A matrix by its Hugging Face name, f32 [N, K] on the CPU. Called once a matrix and use.
using WeightSource = std::function<at::Tensor(const std::string& name)>;

/// Those of a model with its adapter put in; `weights` must outlive the source.
WeightSource weights_of(const model::MergedWeights& weights);

}  // namespace slmi::calib
