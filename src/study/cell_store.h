// What a study has done already, on disk: each result with the key of what it was made from.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "slmi/eval/model_run.h"

namespace slmi::study {

/// Names, sizes and times of change of a model's files: cheap, and different after any rewriting.
Json files_key(const std::filesystem::path& path);

/// The bytes of a file or of a directory's weight files (.safetensors, .gguf).
int64_t weight_file_bytes(const std::filesystem::path& path);

/// What `file` stores as `field`, if it is there and was made from `key`; a broken file counts as absent.
std::optional<Json> stored_in(const std::filesystem::path& file, const Json& key, const char* field);
/// Stores it, whole or not at all. @throws Error{Output}.
void store_in(const std::filesystem::path& file, const Json& key, const char* field, const Json& value);

/// A measured cell, or why it could not be.
struct CellResult {
  std::string problem;  // empty: it ran
  std::optional<eval::ModelRun> run;
};
/// As stored_in and store_in.
std::optional<CellResult> read_cell(const std::filesystem::path& file, const Json& key);
void write_cell(const std::filesystem::path& file, const Json& key, const CellResult& result);

}  // namespace slmi::study
