// Weights to quantize, whatever they are made of.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "slmi/model/open.h"

namespace slmi::calib {

/// A matrix by its Hugging Face name, f32 [N, K] on the CPU. Called once a matrix and use.
using WeightSource = std::function<at::Tensor(const std::string& name)>;

/// Those of a model's files: the base's, dequantized where need be, with the adapter's update added in f32 if there is
/// one. @throws Error{Input} if the adapter does not fit.
WeightSource weights_of(const model::ModelFiles& files);

}  // namespace slmi::calib
