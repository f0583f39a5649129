// GGUF metadata to LlamaConfig; see llama_config.h.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "llama_limits.h"
#include "slmi/formats/gguf.h"

namespace slmi::formats {
namespace {

// Keys of the architecture that are read here or say nothing about the computation. Any other one is refused by name:
// a key that is not understood may change the result.
constexpr std::array<std::string_view, 20> kKnownKeys = {
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.attention.causal",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scale_linear",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.finetuned",
    "llama.vocab_size",
    "llama.tensor_data_layout",
    "llama.expert_count",
};

/// Typed look-ups that gather problems, as Fields does for JSON.
class Keys {
 public:
  Keys(const GgufFile& file, Problems& problems) : file_(file), problems_(problems) {}

  int64_t integer(const char* key, int64_t low, int64_t high, std::optional<int64_t> fallback = std::nullopt) const {
    const GgufValue* value = file_.find(key);
    if (value == nullptr) {
      if (!fallback) problems_.add("{} is missing", key);
      return fallback.value_or(low);
    }
    if (value->is_array()) {
      problems_.add("{} is an array; layers of several shapes are not supported", key);
      return fallback.value_or(low);
    }
    const int64_t out = value->as_int();
    if (out >= low && out <= high) return out;
    problems_.add("{} = {}; expected an integer from {} to {}", key, out, low, high);
    return fallback.value_or(low);
  }
  double number(const char* key, double low, double high, std::optional<double> fallback = std::nullopt) const {
    const GgufValue* value = file_.find(key);
    if (value == nullptr) {
      if (!fallback) problems_.add("{} is missing", key);
      return fallback.value_or(low);
    }
    const double out = shortest(*value);
    if (out >= low && out <= high) return out;
    problems_.add("{} = {}; expected a number from {} to {}", key, out, low, high);
    return fallback.value_or(low);
  }

 private:
  /// 1e-5 is stored as the f32 next to it: read it as the shortest decimal that gives this f32, as people wrote it.
  static double shortest(const GgufValue& value) {
    const double out = value.as_float();
    if (value.type != GgufType::F32 || !std::isfinite(out)) return out;
    return std::strtod(fmt::format("{}", static_cast<float>(out)).c_str(), nullptr);
  }
  const GgufFile& file_;
  Problems& problems_;
};

void check_keys(const GgufFile& file, Problems& problems) {
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with("llama.")) continue;
    const bool known = std::find(kKnownKeys.begin(), kKnownKeys.end(), key) != kKnownKeys.end();
    if (!known) problems.add("key '{}' is not supported", key);
  }
  const auto* causal = file.find("llama.attention.causal");
  if (causal != nullptr && !causal->as_bool())
    problems.add("llama.attention.causal is false; only causal attention is");
  const auto* experts = file.find("llama.expert_count");
  if (experts != nullptr && experts->as_int() != 0)
    problems.add("llama.expert_count: mixtures of experts are not supported");
}

void read_rope(const GgufFile& file, const Keys& keys, Problems& problems, LlamaConfig& out) {
  out.rope_theta = keys.number("llama.rope.freq_base", 1.0, kMaxRopeTheta, 10000.0);
  const int64_t rotated = keys.integer("llama.rope.dimension_count", 1, kMaxHeadDim, out.head_dim);
  if (rotated != out.head_dim) {
    problems.add("llama.rope.dimension_count = {}, head width {}; partial rotary embeddings are not supported", rotated,
                 out.head_dim);
  }
  const auto* type = file.find("llama.rope.scaling.type");
  const auto kind = type != nullptr ? type->as_string() : file.has_key("llama.rope.scale_linear") ? "linear" : "none";
  if (kind == "linear") {
    const auto key =
        file.has_key("llama.rope.scaling.factor") ? "llama.rope.scaling.factor" : "llama.rope.scale_linear";
    out.rope_scaling.kind = RopeScalingKind::Linear;
    out.rope_scaling.factor = keys.number(key, kMinRopeFactor, kMaxRopeFactor);
  } else if (kind != "none") {
    problems.add("llama.rope.scaling.type = \"{}\"; supported are none and linear", kind);
  }
  if (!file.has("rope_freqs.weight")) return;
  const auto& tensor = file.tensor("rope_freqs.weight");
  if (tensor.format != quant::WeightFormat::F32 || tensor.shape != Shape{out.head_dim / 2}) {
    problems.add("rope_freqs.weight is {} {}; expected F32 [{}]", quant::name(tensor.format), shape_text(tensor.shape),
                 out.head_dim / 2);
    return;
  }
  if (out.rope_scaling.kind == RopeScalingKind::Linear) problems.add("rope_freqs.weight together with linear scaling");
  out.rope_scaling.kind = RopeScalingKind::Divisors;
  out.rope_scaling.divisors = floats_from(Dtype::F32, tensor.bytes, "rope_freqs.weight");
  const bool positive = std::all_of(out.rope_scaling.divisors.begin(), out.rope_scaling.divisors.end(),
                                    [](float d) { return std::isfinite(d) && d > 0; });
  if (!positive) problems.add("rope_freqs.weight holds values that are not positive numbers");
}

void read_tokens(const GgufFile& file, const Keys& keys, Problems& problems, LlamaConfig& out) {
  if (!file.has("token_embd.weight")) return problems.add("no tensor 'token_embd.weight'");
  out.vocab_size = file.tensor("token_embd.weight").shape[0];
  const int64_t said = keys.integer("llama.vocab_size", 1, kMaxVocabulary, out.vocab_size);
  if (said != out.vocab_size)
    problems.add("llama.vocab_size = {}, but token_embd.weight has {} rows", said, out.vocab_size);
  const auto id = [&](const char* key) -> std::optional<int64_t> {
    const int64_t value = keys.integer(key, -1, UINT32_MAX, -1);
    return value < 0 || value == UINT32_MAX ? std::nullopt : std::optional<int64_t>(value);  // writers' -1
  };
  out.bos_token_id = id("tokenizer.ggml.bos_token_id");
  out.pad_token_id = id("tokenizer.ggml.padding_token_id");
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const auto eos = id(key);
    const auto& ids = out.eos_token_ids;
    if (eos && std::find(ids.begin(), ids.end(), *eos) == ids.end()) out.eos_token_ids.push_back(*eos);
  }
}

void check_kind(const GgufFile& file) {
  const auto architecture = file.value("general.architecture").as_string();
  require(architecture == "llama", ErrorKind::Input, "{}: general.architecture = \"{}\"; only \"llama\" is supported",
          file.source(), architecture);
  const auto* type = file.find("general.type");
  require(type == nullptr || type->as_string() == "model", ErrorKind::Input,
          "{}: general.type = \"{}\"; expected \"model\"", file.source(), type == nullptr ? "" : type->as_string());
}

}  // namespace

LlamaConfig LlamaConfig::from_gguf(const GgufFile& file) {
  check_kind(file);
  Problems problems(file.source());
  check_keys(file, problems);
  const Keys keys(file, problems);
  LlamaConfig out;
  out.hidden_size = keys.integer("llama.embedding_length", 1, kMaxWidth);
  out.intermediate_size = keys.integer("llama.feed_forward_length", 1, kMaxWidth);
  out.num_layers = keys.integer("llama.block_count", 1, kMaxLayers);
  out.num_heads = keys.integer("llama.attention.head_count", 1, kMaxHeads);
  out.num_kv_heads = keys.integer("llama.attention.head_count_kv", 1, kMaxHeads, out.num_heads);
  out.head_dim = keys.integer("llama.attention.key_length", 2, kMaxHeadDim, out.hidden_size / out.num_heads);
  const int64_t value_length = keys.integer("llama.attention.value_length", 1, kMaxHeadDim, out.head_dim);
  if (value_length != out.head_dim)
    problems.add("llama.attention.value_length = {}, key_length {}; expected equal ones", value_length, out.head_dim);
  out.rms_norm_eps = keys.number("llama.attention.layer_norm_rms_epsilon", 0.0, 1.0);
  out.max_position_embeddings = keys.integer("llama.context_length", 1, kMaxPositions, 2048);
  read_tokens(file, keys, problems, out);
  read_rope(file, keys, problems, out);
  out.tie_word_embeddings = !file.has("output.weight");
  if (problems.empty()) check_llama_shape(out, problems);
  problems.throw_if_any();
  return out;
}

}  // namespace slmi::formats
