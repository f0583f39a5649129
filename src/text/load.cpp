// Tokenizer::load: which kind of file is it?
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/base/mapped_file.h"
#include "vocabulary_files.h"

namespace slmi::text {
namespace {

namespace fs = std::filesystem;

/// A token in tokenizer_config.json: a string, or an object with "content".
std::optional<std::string> token_field(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return std::nullopt;
}

/// True if a tokenizer.json says byte_fallback: it is a SentencePiece vocabulary in another form.
bool says_byte_fallback(const fs::path& path) {
  const MappedFile file = MappedFile::open(path);
  constexpr std::string_view kKey = "\"byte_fallback\"";
  const size_t key = file.text().find(kKey);
  if (key == std::string_view::npos) return false;
  const size_t value = file.text().find_first_not_of(" \t\r\n:", key + kKey.size());
  return value != std::string_view::npos && file.text().substr(value).starts_with("true");
}

Tokenizer::Ptr load_file(const fs::path& path, const TokenizerConfig& config) {
  const MappedFile file = MappedFile::open(path);
  const std::string_view bytes = file.text();
  const std::string source = path.string();
  require(!bytes.empty(), ErrorKind::Input, "{}: the file is empty", source);
  if (bytes.starts_with("GGUF")) return Tokenizer::from_gguf(formats::GgufFile::open(path));
  if (looks_like_tiktoken(bytes)) return read_tiktoken(bytes, source, config);
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && bytes[first] == '{') return read_tokenizer_json(bytes, source, config);
  // A SentencePiece model is a protobuf message that begins with its first piece: field 1, a message.
  if (bytes[0] == '\n') return read_sentencepiece(bytes, source, config);
  fail(ErrorKind::Input,
       "{}: no tokenizer that is known here: neither a tokenizer.json, a tiktoken .model, a SentencePiece .model nor a "
       ".gguf",
       source);
}

}  // namespace

fs::path model_file_in(const fs::path& directory) {
  std::error_code ignored;
  for (const char* name : {"tokenizer.model", "original/tokenizer.model"})
    if (fs::exists(directory / name, ignored)) return directory / name;
  return {};
}

TokenizerConfig read_tokenizer_config(const fs::path& path) {
  const Json json = read_json_file(path.string());
  require(json.is_object(), ErrorKind::Input, "{}: expected a JSON object", path.string());
  TokenizerConfig out;
  out.bos = token_field(json, "bos_token");
  out.eos = token_field(json, "eos_token");
  out.pad = token_field(json, "pad_token");
  const auto add_bos = json.find("add_bos_token");
  if (add_bos != json.end() && add_bos->is_boolean()) out.add_bos = add_bos->get<bool>();
  return out;
}

Tokenizer::Ptr Tokenizer::load(const fs::path& path) {
  std::error_code ignored;
  const bool is_directory = fs::is_directory(path, ignored);
  const fs::path directory = is_directory ? path : path.parent_path();
  const fs::path config_path = directory / "tokenizer_config.json";
  TokenizerConfig config;
  // Beside a single file only where that is the one the configuration belongs to.
  const bool has_config = is_directory || path.filename() == "tokenizer.json" || path.filename() == "tokenizer.model";
  if (has_config && fs::exists(config_path, ignored)) config = read_tokenizer_config(config_path);
  if (!is_directory) return load_file(path, config);
  const fs::path json = directory / "tokenizer.json", model = model_file_in(directory);
  const bool has_json = fs::exists(json, ignored), has_model = !model.empty();
  if (has_json && !(has_model && says_byte_fallback(json))) return load_file(json, config);
  if (has_model) return load_file(model, config);
  fail(ErrorKind::Input,
       "{}: no tokenizer.json, tokenizer.model or original/tokenizer.model in this directory; copy the base's here",
       path.string());
}

Tokenizer::Ptr Tokenizer::from_gguf(const formats::GgufFile& file) {
  const std::string_view model = file.value("tokenizer.ggml.model").as_string();
  if (model == "gpt2") return read_gguf_bpe(file);
  if (model == "llama") return read_gguf_sentencepiece(file);
  fail(ErrorKind::Input, "{}: tokenizer type '{}' (tokenizer.ggml.model) is not supported; known: gpt2, llama",
       file.source(), model);
}

bool Tokenizer::is_in(const fs::path& directory) {
  std::error_code ignored;
  return fs::exists(directory / "tokenizer.json", ignored) || !model_file_in(directory).empty();
}

Tokenizer::Ptr Tokenizer::from_tokenizer_json(std::string_view json, const std::string& source) {
  return read_tokenizer_json(json, source, {});
}

Tokenizer::Ptr Tokenizer::from_tiktoken(std::string_view bytes, const std::string& source) {
  return read_tiktoken(bytes, source, {});
}

}  // namespace slmi::text
