// LoRA adapters in GGUF's form, as llama.cpp's --lora loads them onto a GGUF base.
#pragma once

#include <filesystem>
#include <string>

#include "slmi/formats/gguf.h"
#include "slmi/formats/llama_config.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/formats/provenance.h"

namespace slmi::formats {

/// Writes a PEFT adapter as a GGUF adapter (llama.cpp convert_lora_to_gguf.py): for each pair
///   NAME.lora_a f32 [R, in], NAME.lora_b f32 [out, R]   NAME: GGUF's, e.g. "blk.0.attn_q.weight"
/// with the rows of B moved as those of Q and K are, and adapter.lora.alpha such that alpha / R is the adapter's scale
/// (readers know no rank-stabilized one). Atomic, deterministic.
/// @param config  the base's; @param name  general.name. @throws Error{Input} if the adapter does not fit the config;
/// Error{Output}.
void write_gguf_adapter(const std::filesystem::path& path, const PeftAdapter& adapter, const LlamaConfig& config,
                        const std::string& name, const Provenance& provenance);

}  // namespace slmi::formats
