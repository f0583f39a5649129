// See the header.
#include "test_support.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/formats/gguf.h"

namespace slmi::text {

namespace fs = std::filesystem;

fs::path golden_path(const std::string& name) {
  return fs::path(SLMI_SOURCE_DIR) / "tests/text/golden" / name;
}

Json read_golden(const std::string& name) {
  return read_json_file(golden_path(name).string());
}

std::string read_file(const fs::path& path) {
  return std::string(MappedFile::open(path).text());
}

fs::path written_in(const TemporaryDirectory& folder, const std::string& name, std::string_view bytes) {
  write_file_atomically(folder / name, bytes);
  return folder / name;
}

void write_gguf_of_json(const Json& tokenizer_json, const std::string& pre, const fs::path& path) {
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
  const auto put = [&](size_t id, const std::string& text, int32_t type) {
    if (id >= tokens.size()) tokens.resize(id + 1);
    types.resize(tokens.size(), 5);
    tokens[id] = text;
    types[id] = type;
  };
  for (const auto& [text, id] : tokenizer_json["model"]["vocab"].items()) put(id.get<size_t>(), text, 1);
  for (const Json& token : tokenizer_json["added_tokens"]) put(token["id"].get<size_t>(), token["content"], 3);
  for (const Json& merge : tokenizer_json["model"]["merges"]) {
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  formats::GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", pre);
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_i32s("tokenizer.ggml.token_type", types);
  writer.add_strings("tokenizer.ggml.merges", merges);
  writer.write(path);
}

std::optional<std::string> file_from_environment(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || !fs::exists(value)) return std::nullopt;
  return value;
}

}  // namespace slmi::text
