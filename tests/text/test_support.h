// Golden files and temporary files for the tests of text.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../base/temporary_directory.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/text/tokenizer.h"

namespace slmi::text {

std::filesystem::path golden_path(const std::string& name);
Json read_golden(const std::string& name);
std::string read_file(const std::filesystem::path& path);

/// Writes a file in a directory. @return its path.
std::filesystem::path written_in(const TemporaryDirectory& folder, const std::string& name, std::string_view bytes);

/// The vocabulary of a byte-level tokenizer.json as a GGUF file.
void write_gguf_of_json(const Json& tokenizer_json, const std::string& pre, const std::filesystem::path& path);

/// The message of the Error that `body` throws; empty if it throws none.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

/// Value of an environment variable that names a file which is there.
std::optional<std::string> file_from_environment(const char* variable);

}  // namespace slmi::text
