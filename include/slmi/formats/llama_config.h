// What a Llama-architecture model looks like: read from Hugging Face's config.json or from GGUF metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "slmi/base/json.h"

namespace slmi::formats {

class GgufFile;

enum class RopeScalingKind {
  None,
  Linear,    // every frequency / factor
  Llama3,    // Llama 3.1's rule: long wavelengths / factor, a ramp between
  Divisors,  // frequency i / divisors[i]: GGUF's rope_freqs.weight
};

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::None;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // Llama3
  int64_t original_max_position_embeddings = 8192;       // Llama3
  std::vector<float> divisors;                           // Divisors: [head_dim / 2]
};

struct LlamaConfig {
  std::string architecture = "LlamaForCausalLM";
  int64_t hidden_size = 0;        // D
  int64_t intermediate_size = 0;  // F
  int64_t num_layers = 0;
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // HK, divides H
  int64_t head_dim = 0;      // E, even
  int64_t vocab_size = 0;    // V
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  int64_t max_position_embeddings = 2048;
  bool tie_word_embeddings = false;
  std::optional<int64_t> bos_token_id, pad_token_id;
  std::vector<int64_t> eos_token_ids;  // the config's number or list; may be empty
  std::string torch_dtype;             // "bfloat16", ... as the config says; empty if it does not (or GGUF)
  Json other_keys = Json::object();    // of config.json: what nothing is computed from, kept for to_hf_json

  /// Reads config.json. Accepts `rope_scaling` with `rope_type` or `type`, and transformers 5's `rope_parameters`;
  /// `torch_dtype` or `dtype`. What this program does not compute (another model_type or activation, biases, sliding
  /// windows, experts, partial rotary, other rope types, ...) is refused by name; all problems in one message. How the
  /// weights are quantized is the checkpoint's matter (formats/gptq_checkpoint.h): `quantization_config` is left out.
  /// @param source  names the file in errors. @throws Error{Input}.
  static LlamaConfig from_hf_json(const Json& json, const std::string& source);
  /// Reads the metadata of a GGUF file of architecture "llama", its rope_freqs.weight, and whether output.weight is
  /// absent (tied head). @throws Error{Input} naming file and key.
  static LlamaConfig from_gguf(const GgufFile& file);

  /// Adds the stop ids that generation_config.json names and config.json does not. @throws Error{Input}.
  void add_generation_config(const Json& json, const std::string& source);

  /// A config.json for a model that we write: readable by transformers 4 and 5; keys of the one that was read which
  /// mean nothing here (initializer_range, transformers_version, ...) are kept, but not those that name the original's
  /// path or code. Divisors are written as the llama3 rule if they come from one (to 1e-5). @param dtype "bfloat16",
  /// "float16" or "float32". @throws Error{Usage} if they do not.
  Json to_hf_json(const std::string& dtype) const;

  /// head_dim / 2 inverse frequencies in f32, computed as transformers does (modeling_rope_utils.py: f32 powers, f32
  /// scaling), so that angles agree to the last bits.
  std::vector<float> rope_inv_freq() const;
};

}  // namespace slmi::formats
