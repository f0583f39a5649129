// A Modelfile for Ollama beside a GGUF file: the same template, stop texts and system turn.
#pragma once

#include <string>

#include "slmi/text/prompt_builder.h"

namespace slmi::text {

/// FROM, TEMPLATE, SYSTEM, PARAMETERs, and as comments what Ollama does otherwise than the prompt builder.
/// @param gguf_name  the file's name, as seen from the Modelfile.
/// @throws Error{Input} for a template or system turn with three quotes in a row, which a Modelfile cannot hold.
std::string ollama_modelfile(const PromptBuilder& prompts, const std::string& gguf_name);

}  // namespace slmi::text
