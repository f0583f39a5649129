// For the tests of the program: runs slmi as a process, and makes a tiny model that it can work with.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "../base/temporary_directory.h"
#include "slmi/base/json.h"
#include "slmi/formats/checkpoint.h"

namespace slmi::cli::testing {

namespace fs = std::filesystem;

struct Outcome {
  int code = -1;  // exit code; 128 + the signal that ended it
  std::string out, err;
};

/// Runs a command line through the shell in `directory`, with `slmi` standing for the program that was built.
Outcome run(const std::string& command_line, const fs::path& directory,
            const std::map<std::string, std::string>& environment = {});

/// Of the model tests: "tiny-tied", "tiny-tied-trained", "tiny-gqa-llama3".
fs::path golden_model(const std::string& name);
std::string read_text(const fs::path& path);
void write_text(const fs::path& path, std::string_view text);

/// 96 tokens: chatml's three special ones, the printable characters but a few, and three merges.
std::string tiny_tokenizer_json();
/// tiny-tied (2 layers, width 32, 96 tokens) with that tokenizer.
void write_tiny_base(const fs::path& directory);
/// The same as a GGUF file, its matrices in Q8_0 where their rows allow it, else in F16.
void write_tiny_gguf(const fs::path& path);

/// A random model (2 layers, width 32, 96 tokens) of sizes that GPTQ can hold, with that tokenizer; and rows for it.
void write_gptq_base(const fs::path& directory);
std::string gptq_rows();

/// All values of a tensor as f32.
std::vector<float> values_of(const formats::Checkpoint& checkpoint, const std::string& name);

}  // namespace slmi::cli::testing
