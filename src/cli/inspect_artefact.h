// What is in a file or directory, and whether it is sound: the work of slmi inspect.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "slmi/base/json.h"

namespace slmi::cli {

struct InspectOptions {
  std::string base;          // of an adapter or run; "": what it names
  bool check_values = true;  // look for NaN and infinities
};

struct TensorLine {
  std::string name, format, shape;
  uint64_t elements = 0, bytes = 0;
};

/// Everything that could be read, and everything that is wrong.
struct Inspection {
  std::string path,
      kind;  // "Hugging Face directory", "GGUF", "safetensors", "PEFT adapter", "run", "tokenizer", "unknown"
  Json facts = Json::object();
  std::vector<TensorLine> tensors;
  std::vector<std::string> notes, problems;
  std::string next;  // a command that would follow; empty: none
};

/// Reads an artefact with every validation that its readers have. Never throws Error{Input}: what is wrong is listed.
Inspection inspect(const std::filesystem::path& path, const InspectOptions& options);

}  // namespace slmi::cli
