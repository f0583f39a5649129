// What the writers of quantized models have in common: where they may write, and what is not quantized.
#pragma once

#include <filesystem>
#include <string>

#include "slmi/calib/weight_source.h"
#include "slmi/formats/safetensors.h"
#include "slmi/model/open.h"

namespace slmi::calib {

/// `out` must be absent, empty, a model that this program wrote, or `ours` (an unfinished job), and not the input.
/// @throws Error{Usage}.
void check_out(const model::ModelFiles& files, const std::filesystem::path& out, bool ours);

/// Norm, embedding or head as `dtype` (F16, BF16), made when its turn to be written comes. A norm stays f32 where
/// `dtype` cannot hold it exactly, so that the model's fingerprint is the base's; others are rounded, and an
/// Error{Numeric} if that is not finite. `checkpoint` and `weights` must outlive the tensor.
formats::OutputTensor number_tensor(const std::string& name, const formats::Shape& shape, formats::Dtype dtype,
                                    const formats::Checkpoint& checkpoint, const WeightSource& weights);

/// Vocabulary and template of the model, as other programs read them. @param tokenizer as in OpenOptions.
void write_tokenizer(const model::ModelFiles& files, const std::filesystem::path& out, const std::string& tokenizer);

}  // namespace slmi::calib
