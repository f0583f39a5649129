// What a study has done already: artefacts and cells on disk, each with the key of what it was made from.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "slmi/eval/model_run.h"

namespace slmi::study {

/// A measured cell, or why it could not be.
struct CellResult {
  std::string problem;  // empty: it ran
  std::optional<eval::ModelRun> run;
};

/// Names, sizes and times of change of a model's files: cheap, and different after any rewriting.
Json files_key(const std::filesystem::path& path);

/// The bytes of a file or of a directory's weight files (.safetensors, .gguf).
int64_t weight_file_bytes(const std::filesystem::path& path);

/// Whether `stamp` says that it was made from `key`.
bool is_made_from(const std::filesystem::path& stamp, const Json& key);
/// Notes it. @throws Error{Output}.
void note_made(const std::filesystem::path& stamp, const Json& key);

/// The stored result of a cell, if `file` is there and was measured with `key`; a broken file counts as absent.
std::optional<CellResult> read_cell(const std::filesystem::path& file, const Json& key);
/// @throws Error{Output}.
void write_cell(const std::filesystem::path& file, const Json& key, const CellResult& result);

}  // namespace slmi::study
