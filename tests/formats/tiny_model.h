// A small random model for the tests, written as a Hugging Face directory or as a GGUF file.
#pragma once

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "slmi/base/random.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/quant/gguf_codec.h"

namespace slmi::formats {

inline LlamaConfig tiny_config() {
  LlamaConfig c;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 8;
  c.vocab_size = 20;
  c.rms_norm_eps = 1e-5;
  c.rope_theta = 500000.0;
  c.bos_token_id = 1;
  c.eos_token_ids = {2, 3};
  return c;
}

class TinyModel {
 public:
  explicit TinyModel(const LlamaConfig& config, uint64_t seed = 1, double spread = 1.0) : config_(config) {
    Random random(seed);
    for (const auto& t : expected_tensors(config)) {
      auto& values = values_[t.name];
      values.resize(num_elements(t.shape));
      for (float& v : values) v = static_cast<float>(spread * random.normal());
    }
  }

  const std::vector<float>& values(const std::string& name) const { return values_.at(name); }

  /// Views of the values, in the order of expected_tensors.
  std::vector<OutputTensor> tensors() const {
    std::vector<OutputTensor> out;
    for (const auto& t : expected_tensors(config_)) {
      out.push_back({t.name, Dtype::F32, t.shape, std::as_bytes(std::span(values_.at(t.name)))});
    }
    return out;
  }

  void write_directory(const std::filesystem::path& directory, uint64_t max_shard_bytes = 1 << 30) const {
    HfWriteOptions options;
    options.dtype = "float32";
    options.max_shard_bytes = max_shard_bytes;
    write_hf_directory(directory, config_, tensors(), Provenance{}, options);
  }

  /// `add` may add to the file before it is written. Matrices are stored in `format`.
  void write_gguf(const std::filesystem::path& path, const std::function<void(GgufWriter&)>& add = {},
                  quant::WeightFormat format = quant::WeightFormat::F32) const {
    GgufWriter w;
    w.add_string("general.architecture", "llama");
    const auto u32 = [&](const char* key, int64_t value) { w.add_u32(key, static_cast<uint32_t>(value)); };
    u32("llama.embedding_length", config_.hidden_size);
    u32("llama.feed_forward_length", config_.intermediate_size);
    u32("llama.block_count", config_.num_layers);
    u32("llama.attention.head_count", config_.num_heads);
    u32("llama.attention.head_count_kv", config_.num_kv_heads);
    u32("llama.context_length", config_.max_position_embeddings);
    w.add_f32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(config_.rms_norm_eps));
    w.add_f32("llama.rope.freq_base", static_cast<float>(config_.rope_theta));
    std::map<std::string, std::vector<std::byte>> made, moved;
    for (const auto& t : tensors()) {
      auto bytes = t.bytes;
      const auto stored = t.shape.size() == 2 ? format : quant::WeightFormat::F32;
      if (stored != quant::WeightFormat::F32)
        bytes = made[t.name] = quant::quantize(stored, values_.at(t.name), t.shape[0], t.shape[1]);
      const bool q = t.name.ends_with("q_proj.weight"), k = t.name.ends_with("k_proj.weight");
      if (q || k) {
        const auto row = static_cast<uint64_t>(quant::row_bytes(stored, config_.hidden_size));
        moved[t.name] = rows_to_interleaved(bytes, q ? config_.num_heads : config_.num_kv_heads, config_.head_dim, row);
        bytes = moved[t.name];
      }
      w.add_tensor(gguf_name_of_hf(t.name), stored, t.shape, bytes);
    }
    if (add) add(w);
    w.write(path);
  }

 private:
  LlamaConfig config_;
  std::map<std::string, std::vector<float>> values_;
};

}  // namespace slmi::formats
