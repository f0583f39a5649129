// Writes a model as a Hugging Face directory, such as transformers, vLLM and our own loader read.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "slmi/formats/llama_config.h"
#include "slmi/formats/provenance.h"
#include "slmi/formats/safetensors.h"

namespace slmi::formats {

struct HfWriteOptions {
  std::string dtype = "bfloat16";            // for config.json
  uint64_t max_shard_bytes = 5'000'000'000;  // transformers' default, "5GB"
  std::vector<int64_t> stop_ids;             // for generation_config.json; empty: the config's eos list
  Json quantization = nullptr;               // of quantized tensors: config.json's quantization_config
};

/// Writes slmi.json, generation_config.json, quantize_config.json of a GPTQ model, and model.safetensors, or, above
/// max_shard_bytes of tensor data, model-0000i-of-0000K.safetensors and model.safetensors.index.json; config.json last,
/// so that a directory whose writing was cut short does not load. Tensors are written as they come in (expected_tensors
/// gives the usual order). Weight files of an earlier run that do not belong to the new model are removed. @throws
/// Error{Output} if writing fails, or if the directory holds model weights and no slmi.json: such a directory is not
/// ours to overwrite.
void write_hf_directory(const std::filesystem::path& directory, const LlamaConfig& config,
                        std::span<const OutputTensor> tensors, const Provenance& provenance,
                        const HfWriteOptions& options = {});

/// Removes what write_hf_directory writes, but slmi.json: config.json first, so that what is left never loads.
/// @throws Error{Output}.
void remove_model_files(const std::filesystem::path& directory);

}  // namespace slmi::formats
