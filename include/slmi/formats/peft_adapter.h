// LoRA adapters in PEFT's directory form: adapter_config.json + adapter_model.safetensors, read and written.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/formats/safetensors.h"

namespace slmi::formats {

/// The seven linear modules of a Llama block, in the order in which they are used.
enum class LlamaModule { QProj, KProj, VProj, OProj, GateProj, UpProj, DownProj };
inline constexpr int kNumLlamaModules = 7;
/// "q_proj".
std::string_view llama_module_name(LlamaModule module);
/// "self_attn.q_proj", "mlp.gate_proj".
std::string_view llama_module_path(LlamaModule module);
/// Inverse of llama_module_name; @throws Error{Usage} that lists the names.
LlamaModule parse_llama_module(std::string_view name);

/// What adapter_config.json says, as far as it matters here.
struct PeftConfig {
  int64_t r = 8;
  double alpha = 8.0;
  double dropout = 0.0;
  bool use_rslora = false;
  std::vector<std::string> target_modules;  // module names, in the order of LlamaModule
  std::string base_model_name_or_path;

  /// alpha / r, or alpha / sqrt(r) with use_rslora.
  double scale() const;
};

/// One matrix of a pair, as stored.
struct AdapterMatrix {
  Dtype dtype = Dtype::F32;
  int64_t rows = 0, columns = 0;
  std::span<const std::byte> bytes;
  std::vector<float> floats() const;  // row-major; F32, F16 or BF16, exact
};

/// y = W x + scale * B (A x).
struct AdapterPair {
  AdapterMatrix a;  // [r, in]
  AdapterMatrix b;  // [out, r]
};

/// An opened adapter directory. Copies share the mapping.
class PeftAdapter {
 public:
  /// Refuses by key what would change the result and is not supported: use_dora, modules_to_save, bias, fan_in_fan_out,
  /// rank_pattern, alpha_pattern, other peft types, ...; unknown keys are ignored, as PEFT asks. All A are [r, in] and
  /// all B [out, r] with the config's r; each A has its B. @throws Error{Input} naming file and key or tensor.
  static PeftAdapter open(const std::filesystem::path& directory);
  /// The same from a config and an open weights file; path() is empty.
  static PeftAdapter from_parts(const PeftConfig& config, const SafetensorsFile& file);
  /// True if the directory holds adapter_config.json.
  static bool is_adapter(const std::filesystem::path& directory);

  const PeftConfig& config() const { return config_; }
  const std::map<std::pair<int64_t, LlamaModule>, AdapterPair>& pairs() const { return pairs_; }
  const std::filesystem::path& path() const { return path_; }
  const SafetensorsFile& file() const { return file_; }

 private:
  void check_targets(class Problems* problems);

  PeftConfig config_;
  SafetensorsFile file_;
  std::filesystem::path path_;
  std::map<std::pair<int64_t, LlamaModule>, AdapterPair> pairs_;
};

/// Reads adapter_config.json alone; `source` names it in errors.
PeftConfig parse_peft_config(const Json& json, const std::string& source);

/// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".
enum class LoraSide { A, B };
std::string peft_tensor_name(int64_t layer, LlamaModule module, LoraSide side);

/// Writes adapter_model.safetensors, then adapter_config.json, each atomically, into `directory` (created if absent).
/// `tensors` carry PEFT's names (peft_tensor_name). @throws Error{Output}.
void write_peft_adapter(const std::filesystem::path& directory, const PeftConfig& config,
                        std::span<const OutputTensor> tensors);

}  // namespace slmi::formats
