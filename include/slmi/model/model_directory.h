// A model directory that this program writes, merged or quantized: where it may lie, how its numbers are rounded, and
// its vocabulary.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "slmi/model/open.h"

namespace slmi::model {

/// `out` must be absent, empty, or a model that this program wrote, and none of the inputs. @throws Error{Usage}.
void check_out(const ModelFiles& files, const std::filesystem::path& out);

/// Vocabulary and template of the model, as other programs read them. @param tokenizer as in OpenOptions.
/// @throws Error{Internal} if what was written reads as another tokenizer, Error{Output}.
void write_tokenizer(const ModelFiles& files, const std::filesystem::path& out, const std::string& tokenizer);

/// The type that a tensor of the checkpoint gets in a model of `dtype` (F32, F16 or BF16): a norm that `dtype` cannot
/// hold exactly stays f32, so that the model's fingerprint is the base's.
formats::Dtype written_dtype(const formats::Checkpoint& checkpoint, const std::string& name, formats::Dtype dtype);

/// f32 values, each rounded once to `dtype`. @param what  the tensor in messages, "OUT: tensor 'x'".
/// @param advice  what to do where f16 ends, or "". @throws Error{Numeric} if a number is not finite after that.
std::vector<std::byte> rounded_bytes(const at::Tensor& values, formats::Dtype dtype, const std::string& what,
                                     const std::string& advice = "");

}  // namespace slmi::model
