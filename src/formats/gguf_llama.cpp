// Writing llama.* metadata; see the header.
#include "slmi/formats/gguf_llama.h"

#include <cmath>
#include <limits>

namespace slmi::formats {
namespace {

/// The f32 d for which plain / d is `scaled`, if a neighbour of the quotient is one; else the quotient.
float divisor(float plain, float scaled) {
  const float quotient = plain / scaled;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float d : {quotient, std::nextafter(quotient, 0.0F), std::nextafter(quotient, kInfinity)})
    if (plain / d == scaled) return d;
  return quotient;
}

}  // namespace

void add_llama_keys(GgufWriter& writer, const LlamaConfig& c) {
  const auto u32 = [&](const char* key, int64_t value) { writer.add_u32(key, static_cast<uint32_t>(value)); };
  u32("llama.vocab_size", c.vocab_size);
  u32("llama.context_length", c.max_position_embeddings);
  u32("llama.embedding_length", c.hidden_size);
  u32("llama.block_count", c.num_layers);
  u32("llama.feed_forward_length", c.intermediate_size);
  u32("llama.attention.head_count", c.num_heads);
  u32("llama.attention.head_count_kv", c.num_kv_heads);
  u32("llama.attention.key_length", c.head_dim);
  u32("llama.attention.value_length", c.head_dim);
  writer.add_f32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.rms_norm_eps));
  u32("llama.rope.dimension_count", c.head_dim);
  writer.add_f32("llama.rope.freq_base", static_cast<float>(c.rope_theta));
  if (c.rope_scaling.kind == RopeScalingKind::Linear) {
    writer.add_string("llama.rope.scaling.type", "linear");
    writer.add_f32("llama.rope.scaling.factor", static_cast<float>(c.rope_scaling.factor));
  }
}

std::vector<float> rope_divisors(const LlamaConfig& config) {
  const auto kind = config.rope_scaling.kind;
  if (kind == RopeScalingKind::None || kind == RopeScalingKind::Linear) return {};
  if (kind == RopeScalingKind::Divisors) return config.rope_scaling.divisors;
  LlamaConfig plain = config;
  plain.rope_scaling = {};
  const auto from = plain.rope_inv_freq(), to = config.rope_inv_freq();
  std::vector<float> out(from.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = divisor(from[i], to[i]);
  return out;
}

}  // namespace slmi::formats
