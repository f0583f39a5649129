// Writing Hugging Face model directories; see the header.
#include "slmi/formats/hf_directory.h"

#include <algorithm>
#include <set>

#include "llama_limits.h"
#include "slmi/base/atomic_file.h"
#include "slmi/formats/gptq_checkpoint.h"
#include "slmi/formats/provenance.h"

namespace slmi::formats {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kGenerationConfigFile = "generation_config.json";
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// Weight files that a model directory may hold: ours to replace, and what a reader would pick up.
bool is_weight_file(const std::string& name) {
  return name == kSingle || name == kIndex || (name.starts_with("model-") && name.ends_with(".safetensors"));
}

std::set<std::string> weight_files(const fs::path& directory) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const auto name = entry.path().filename().string();
    if (is_weight_file(name)) out.insert(name);
  }
  return out;
}

/// Consecutive tensors, each shard at most `limit` bytes unless one tensor alone is larger.
std::vector<std::span<const OutputTensor>> split(std::span<const OutputTensor> tensors, uint64_t limit) {
  std::vector<std::span<const OutputTensor>> out;
  size_t begin = 0;
  uint64_t size = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = tensors[i].size_bytes();
    if (i > begin && bytes > limit - std::min(limit, size)) {
      out.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      size = 0;
    }
    size += bytes;
  }
  out.push_back(tensors.subspan(begin));
  return out;
}

/// Writes the shards and their index; returns the names written.
std::set<std::string> write_weights(const fs::path& directory, std::span<const OutputTensor> tensors, uint64_t limit) {
  const auto shards = split(tensors, limit);
  if (shards.size() == 1) {
    write_safetensors(directory / kSingle, tensors);
    return {kSingle};
  }
  std::set<std::string> out = {kIndex};
  std::map<std::string, std::string> weight_map;
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_safetensors(directory / file, shards[i]);
    out.insert(file);
    for (const auto& t : shards[i]) {
      weight_map[t.name] = file;
      total += t.size_bytes();
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file_atomically(directory / kIndex, index.dump(2) + "\n");
  return out;
}

}  // namespace

void remove_model_files(const fs::path& directory) {
  for (const char* name : {kConfigFile, kQuantizeConfigFile, kGenerationConfigFile}) remove_file(directory / name);
  for (const auto& name : weight_files(directory)) remove_file(directory / name);
}

void write_hf_directory(const fs::path& directory, const LlamaConfig& config, std::span<const OutputTensor> tensors,
                        const Provenance& provenance, const HfWriteOptions& options) {
  require(options.max_shard_bytes > 0, ErrorKind::Usage, "the shard size is 0 bytes; expected at least 1");
  Json config_json = config.to_hf_json(options.dtype);  // may refuse: before anything is touched
  if (!options.quantization.is_null()) config_json["quantization_config"] = options.quantization;
  slmi::create_directories(directory);
  const auto old = weight_files(directory);
  require(old.empty() || fs::exists(directory / kProvenanceFile), ErrorKind::Output,
          "{}: holds {} but no {}: another program's model, which is not overwritten; choose another directory",
          directory.string(), old.empty() ? "" : *old.begin(), kProvenanceFile);
  // Without config.json nothing loads the directory: a half-written model must never look whole.
  remove_file(directory / kConfigFile);
  remove_file(directory / kQuantizeConfigFile);
  write_provenance(directory, provenance);
  const auto written = write_weights(directory, tensors, options.max_shard_bytes);
  for (const auto& name : old) {
    if (!written.contains(name)) remove_file(directory / name);
  }
  Json generation = {{"bos_token_id", config_json.at("bos_token_id")},
                     {"eos_token_id", eos_to_json(options.stop_ids.empty() ? config.eos_token_ids : options.stop_ids)},
                     {"pad_token_id", config_json.at("pad_token_id")}};
  write_file_atomically(directory / kGenerationConfigFile, generation.dump(2) + "\n");
  if (options.quantization.is_object() && options.quantization.value("quant_method", "") == "gptq")
    write_file_atomically(directory / kQuantizeConfigFile, options.quantization.dump(2) + "\n");
  write_file_atomically(directory / kConfigFile, config_json.dump(2) + "\n");
}

}  // namespace slmi::formats
