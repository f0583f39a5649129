// From a checkpoint to a Llama: every tensor that the architecture needs, in the format that was asked for.
#include <ATen/ATen.h>

#include "slmi/base/error.h"
#include "slmi/model/llama.h"
#include "slmi/quant/gguf_codec.h"

namespace slmi::model {
namespace {

using quant::WeightFormat;

WeightFormat target_format(BaseFormat wanted, WeightFormat stored) {
  switch (wanted) {
    case BaseFormat::Auto:
    case BaseFormat::Stored:
      return stored;
    case BaseFormat::NF4:
      return WeightFormat::NF4;
    case BaseFormat::BF16:
      return WeightFormat::BF16;
    case BaseFormat::F16:
      return WeightFormat::F16;
    case BaseFormat::F32:
      return WeightFormat::F32;
  }
  return stored;
}

/// Embedding, head and norms are never 4-bit: NF4 keeps them as they are.
WeightFormat embedding_format(BaseFormat wanted, WeightFormat stored) {
  return wanted == BaseFormat::NF4 ? stored : target_format(wanted, stored);
}

/// Where it is not asked for them, a GPU holds no GGUF blocks, but the numbers that products would be made of anyway.
WeightFormat held_format(WeightFormat format, const LoadOptions& options) {
  const bool blocks = quant::is_quantized(format) && !quant::has_planes(format);
  const bool kept = options.device.is_cpu() || options.base_format == BaseFormat::Stored;
  return blocks && !kept ? ops::weight_format(options.policy.compute) : format;
}

/// Whether a matrix takes the detour that the adapter's training took.
bool takes_nf4_values(const LoadOptions& options, bool embedding) {
  return options.base_format == BaseFormat::Auto && options.through_nf4 && !embedding;
}

/// A GPU takes numbers as they are stored and makes NF4 of them itself: start-up does not wait for the host's cores.
bool quantized_there(WeightFormat stored, WeightFormat wanted, at::Device device) {
  return wanted == WeightFormat::NF4 && !quant::is_quantized(stored) && !device.is_cpu();
}

class Loader {
 public:
  Loader(const formats::Checkpoint& checkpoint, const LoadOptions& options)
      : checkpoint_(checkpoint), options_(options) {}

  ops::PackedMatrix matrix(const std::string& name, int64_t n, int64_t k, bool embedding) const {
    auto m = ops::PackedMatrix::from_stored(checkpoint_.tensor(name));
    require(m.n() == n && m.k() == k, ErrorKind::Input, "{}: tensor '{}' is [{}, {}], the configuration needs [{}, {}]",
            checkpoint_.path().string(), name, m.n(), m.k(), n, k);
    if (takes_nf4_values(options_, embedding)) {
      m = m.converted_to(WeightFormat::NF4);
      if (!options_.device.is_cpu()) m = m.converted_to(ops::weight_format(options_.policy.compute));
    }
    const auto wanted = embedding ? embedding_format(options_.base_format, m.format())
                                  : target_format(options_.base_format, m.format());
    const auto format = held_format(wanted, options_);
    if (quantized_there(m.format(), format, options_.device)) return m.to(options_.device).converted_to(format);
    return m.converted_to(format).to(options_.device);
  }

  at::Tensor vector(const std::string& name, int64_t n) const {
    const auto stored = checkpoint_.tensor(name);
    require(stored.shape.size() == 1 && stored.shape[0] == n, ErrorKind::Input,
            "{}: tensor '{}' should have {} elements", checkpoint_.path().string(), name, n);
    const std::vector<float> values = quant::dequantize(stored.format, stored.bytes, 1, n);
    return at::tensor(values, at::kFloat).to(options_.device);
  }

  ops::LinearGroup group(int64_t layer, const std::string& parent, const std::vector<std::string>& modules,
                         const formats::LlamaConfig& config) const {
    std::vector<ops::PackedMatrix> matrices;
    std::vector<ops::LinearSite> sites;
    for (const auto& module : modules) {
      const auto [n, k] = projection_shape(config, module);
      matrices.push_back(matrix(fmt::format("model.layers.{}.{}.{}.weight", layer, parent, module), n, k, false));
      sites.push_back({layer, module});
    }
    return {std::move(matrices), std::move(sites), options_.policy.compute, options_.residency};
  }

 private:
  const formats::Checkpoint& checkpoint_;
  const LoadOptions& options_;
};

}  // namespace

std::shared_ptr<Llama> Llama::load(const formats::Checkpoint& checkpoint, const LoadOptions& options) {
  auto model = std::make_shared<Llama>();
  const auto& c = checkpoint.config();
  model->config_ = c;
  model->options_ = options;
  const Loader loader(checkpoint, options);
  model->embedding_ = loader.matrix("model.embed_tokens.weight", c.vocab_size, c.hidden_size, true);
  if (!c.tie_word_embeddings) model->output_ = loader.matrix("lm_head.weight", c.vocab_size, c.hidden_size, true);
  model->final_norm_ = loader.vector("model.norm.weight", c.hidden_size);
  model->rope_ = ops::RopeTable(c.rope_inv_freq(), options.device);
  for (int64_t i = 0; i < c.num_layers; ++i) {
    Block block;
    const std::string layer = fmt::format("model.layers.{}.", i);
    block.norm1 = loader.vector(layer + "input_layernorm.weight", c.hidden_size);
    block.norm2 = loader.vector(layer + "post_attention_layernorm.weight", c.hidden_size);
    if (options.block_weights == BlockWeights::Loaded) {
      block.qkv = loader.group(i, "self_attn", {"q_proj", "k_proj", "v_proj"}, c);
      block.output = loader.group(i, "self_attn", {"o_proj"}, c);
      block.gate_up = loader.group(i, "mlp", {"gate_proj", "up_proj"}, c);
      block.down = loader.group(i, "mlp", {"down_proj"}, c);
    }
    model->blocks_.push_back(std::move(block));
  }
  if (options.block_weights == BlockWeights::Absent) return model;
  if (options.resident_weights == ResidentWeights::AtLoad) model->detach();
  if (options.residency == ops::Residency::Resident) model->head_resident_ = model->head_weight();
  return model;
}

}  // namespace slmi::model
