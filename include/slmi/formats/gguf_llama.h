// The hyperparameters of a Llama as GGUF metadata: the inverse of LlamaConfig::from_gguf.
#pragma once

#include <vector>

#include "slmi/formats/gguf.h"
#include "slmi/formats/llama_config.h"

namespace slmi::formats {

inline constexpr const char* kRopeFreqsTensor = "rope_freqs.weight";

/// Adds llama.* as llama.cpp's converter names them. Llama 3's rope scaling has no key: it travels as the tensor
/// rope_freqs.weight, whose values rope_divisors() gives.
void add_llama_keys(GgufWriter& writer, const LlamaConfig& config);

/// [head_dim / 2] plain frequency / scaled frequency; empty where no tensor is needed (no scaling, or linear scaling).
/// Each divisor is the f32 that gives rope_inv_freq() back by one division, where there is one among the quotient and
/// its two neighbours: readers that divide then have the angles of transformers.
std::vector<float> rope_divisors(const LlamaConfig& config);

}  // namespace slmi::formats
