// config.json to LlamaConfig and back; see the header.
#include "slmi/formats/llama_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "config_fields.h"
#include "llama_limits.h"

namespace slmi::formats {
namespace {

/// A key that must be absent, null or equal to one of these values, since the program computes nothing else.
struct NeutralKey {
  const char* key;
  std::vector<Json> neutral;
  const char* reason;
};

const std::vector<NeutralKey>& neutral_keys() {
  static const std::vector<NeutralKey> keys = {
      {"attention_bias", {false}, "biases are not supported"},
      {"mlp_bias", {false}, "biases are not supported"},
      {"qkv_bias", {false}, "biases are not supported"},
      {"hidden_act", {"silu"}, "only silu is supported"},
      {"attention_dropout", {0, 0.0}, "dropout in the base model is not supported"},
      {"sliding_window", {}, "sliding windows are not supported"},
      {"use_sliding_window", {false}, "sliding windows are not supported"},
      {"layer_types", {}, "layers of several kinds are not supported"},
      {"num_experts", {0}, "mixtures of experts are not supported"},
      {"num_local_experts", {0}, "mixtures of experts are not supported"},
      {"n_routed_experts", {0}, "mixtures of experts are not supported"},
      {"moe_intermediate_size", {}, "mixtures of experts are not supported"},
      {"partial_rotary_factor", {1, 1.0}, "partial rotary embeddings are not supported"},
      {"rope_interleaved", {false}, "only the rotate-half layout is supported"},
      {"no_rope_layers", {}, "layers without rotary embedding are not supported"},
      {"use_qk_norm", {false}, "norms of q and k are not supported"},
      {"qk_norm", {false}, "norms of q and k are not supported"},
      {"compression_config", {}, "compressed checkpoints are not read; take the 16-bit one or a GGUF file"},
      {"attn_logit_softcapping", {}, "capped logits are not supported"},
      {"final_logit_softcapping", {}, "capped logits are not supported"},
      {"logits_scaling", {1, 1.0}, "scaled logits are not supported"},
      {"logit_scale", {1, 1.0}, "scaled logits are not supported"},
      {"embedding_multiplier", {1, 1.0}, "scaled embeddings are not supported"},
      {"residual_multiplier", {1, 1.0}, "scaled residuals are not supported"},
      {"attention_multiplier", {}, "a scale of attention other than 1/sqrt(head_dim) is not supported"},
  };
  return keys;
}

void check_kind(const Json& json, const Fields& fields, Problems& problems, LlamaConfig& out) {
  const std::string type = fields.text("model_type", "");
  if (type != "llama") problems.add("model_type = \"{}\"; only \"llama\" is supported", type);
  if (const Json* list = fields.find("architectures")) {
    const bool fits = list->is_array() && list->size() == 1 && (*list)[0] == out.architecture;
    if (!fits) problems.add("architectures = {}; only [\"LlamaForCausalLM\"] is supported", Fields::shown(*list));
  }
  for (const auto& k : neutral_keys()) {
    const auto at = json.find(k.key);
    if (at == json.end() || at->is_null()) continue;
    if (std::find(k.neutral.begin(), k.neutral.end(), *at) != k.neutral.end()) continue;
    problems.add("{} = {}: {}", k.key, Fields::shown(*at), k.reason);
  }
}

void read_sizes(const Fields& fields, Problems& problems, LlamaConfig& out) {
  out.hidden_size = fields.integer("hidden_size", 1, kMaxWidth);
  out.intermediate_size = fields.integer("intermediate_size", 1, kMaxWidth);
  out.num_layers = fields.integer("num_hidden_layers", 1, kMaxLayers);
  out.num_heads = fields.integer("num_attention_heads", 1, kMaxHeads);
  out.num_kv_heads = fields.integer("num_key_value_heads", 1, kMaxHeads, out.num_heads);
  out.vocab_size = fields.integer("vocab_size", 1, kMaxVocabulary);
  out.rms_norm_eps = fields.number("rms_norm_eps", 0.0, 1.0, 1e-6);
  out.max_position_embeddings = fields.integer("max_position_embeddings", 1, kMaxPositions, 2048);
  if (!fields.has("head_dim") && problems.empty() && out.hidden_size % out.num_heads != 0) {
    problems.add("hidden_size {} is not a multiple of num_attention_heads {}, and head_dim is missing", out.hidden_size,
                 out.num_heads);
  }
  out.head_dim = fields.integer("head_dim", 2, kMaxHeadDim, std::max<int64_t>(1, out.hidden_size / out.num_heads));
}

std::vector<int64_t> read_eos(const Fields& fields, Problems& problems) {
  const Json* value = fields.find("eos_token_id");
  std::vector<int64_t> out;
  if (value == nullptr) return out;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : list) {
    const auto number = integer_of(id);
    if (!number || *number < 0 || *number >= kMaxVocabulary) {
      problems.add("eos_token_id = {}; expected a token id or a list of them", Fields::shown(*value));
      return {};
    }
    out.push_back(*number);
  }
  return out;
}

void read_tokens(const Fields& fields, Problems& problems, LlamaConfig& out) {
  const auto id = [&](const char* key) -> std::optional<int64_t> {
    const int64_t value = fields.integer(key, -1, kMaxVocabulary, -1);  // old files write -1 for "none"
    return value < 0 ? std::nullopt : std::optional<int64_t>(value);
  };
  out.bos_token_id = id("bos_token_id");
  out.pad_token_id = id("pad_token_id");
  out.eos_token_ids = read_eos(fields, problems);
  out.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
  out.torch_dtype = fields.text("dtype", fields.text("torch_dtype", ""));
}

constexpr std::array<std::string_view, 8> kRopeKeys = {"rope_type",
                                                       "type",
                                                       "rope_theta",
                                                       "factor",
                                                       "low_freq_factor",
                                                       "high_freq_factor",
                                                       "partial_rotary_factor",
                                                       "original_max_position_embeddings"};

void read_llama3(const Fields& fields, Problems& problems, const std::string& prefix, RopeScaling& out) {
  out.kind = RopeScalingKind::Llama3;
  out.factor = fields.number("factor", kMinRopeFactor, kMaxRopeFactor);
  out.low_freq_factor = fields.number("low_freq_factor", kMinRopeFactor, kMaxRopeFactor);
  out.high_freq_factor = fields.number("high_freq_factor", kMinRopeFactor, kMaxRopeFactor);
  out.original_max_position_embeddings = fields.integer("original_max_position_embeddings", 1, kMaxPositions);
  if (problems.empty() && out.low_freq_factor >= out.high_freq_factor) {
    problems.add("{0}low_freq_factor {1} must be less than {0}high_freq_factor {2}", prefix, out.low_freq_factor,
                 out.high_freq_factor);
  }
}

/// `name`: "rope_scaling" or, since transformers 5, "rope_parameters".
void read_rope_object(const Json& rope, const std::string& name, Problems& problems, LlamaConfig& out) {
  if (!rope.is_object()) return problems.add("{} is {}; expected an object", name, rope.type_name());
  const std::string prefix = name + ".";
  const Fields fields(rope, problems, prefix);
  for (const auto& item : rope.items()) {
    const bool known = std::find(kRopeKeys.begin(), kRopeKeys.end(), item.key()) != kRopeKeys.end();
    if (!known && !item.value().is_null()) problems.add("{}{} is not supported", prefix, item.key());
  }
  if (fields.number("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    problems.add("{}partial_rotary_factor: partial rotary embeddings are not supported", prefix);
  }
  out.rope_theta = fields.number("rope_theta", 1.0, kMaxRopeTheta, out.rope_theta);
  const std::string old_type = fields.text("type", "default"), type = fields.text("rope_type", old_type);
  if (fields.has("type") && type != old_type) {
    problems.add("{0}rope_type = \"{1}\", but {0}type = \"{2}\"", prefix, type, old_type);
  } else if (type == "llama3") {
    read_llama3(fields, problems, prefix, out.rope_scaling);
  } else if (type == "linear") {
    out.rope_scaling.kind = RopeScalingKind::Linear;
    out.rope_scaling.factor = fields.number("factor", kMinRopeFactor, kMaxRopeFactor);
  } else if (type != "default") {
    problems.add("{}rope_type = \"{}\"; supported are default, linear and llama3", prefix, type);
  } else if (!fields.has("rope_type") && !fields.has("type") && fields.has("factor")) {
    problems.add("{}rope_type is missing", prefix);
  }
}

void read_rope(const Fields& fields, Problems& problems, LlamaConfig& out) {
  out.rope_theta = fields.number("rope_theta", 1.0, kMaxRopeTheta, 10000.0);
  const Json *scaling = fields.find("rope_scaling"), *parameters = fields.find("rope_parameters");
  if (scaling != nullptr && parameters != nullptr && *scaling != *parameters) {
    problems.add("rope_scaling and rope_parameters differ; keep one");
  } else if (parameters != nullptr) {
    read_rope_object(*parameters, "rope_parameters", problems, out);
  } else if (scaling != nullptr) {
    read_rope_object(*scaling, "rope_scaling", problems, out);
  }
}

/// The llama3 rule that gives these divisors, if there is one with the published factors (low 1, high 4, 8192).
std::optional<RopeScaling> llama3_rule_of(const LlamaConfig& config) {
  constexpr double kTolerance = 1e-5;  // the divisors are f32 and come from f32 frequencies
  const auto& divisors = config.rope_scaling.divisors;
  LlamaConfig plain = config;
  plain.rope_scaling = {};
  LlamaConfig scaled = plain;
  scaled.rope_scaling.kind = RopeScalingKind::Llama3;
  scaled.rope_scaling.factor = *std::max_element(divisors.begin(), divisors.end());
  const auto a = plain.rope_inv_freq(), b = scaled.rope_inv_freq();
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::abs(a[i] / b[i] / divisors[i] - 1.0) > kTolerance) return std::nullopt;
  }
  return scaled.rope_scaling;
}

Json rope_to_json(const LlamaConfig& config) {
  RopeScaling rope = config.rope_scaling;
  if (rope.kind == RopeScalingKind::Divisors) {
    const auto rule = llama3_rule_of(config);
    require(
        rule.has_value(), ErrorKind::Usage,
        "the rope divisors of this GGUF file follow no rule that config.json can state; start from the Hugging Face "
        "checkpoint of this model");
    rope = *rule;
  }
  if (rope.kind == RopeScalingKind::None) return nullptr;
  if (rope.kind == RopeScalingKind::Linear) return {{"rope_type", "linear"}, {"factor", rope.factor}};
  return {{"factor", rope.factor},
          {"high_freq_factor", rope.high_freq_factor},
          {"low_freq_factor", rope.low_freq_factor},
          {"original_max_position_embeddings", rope.original_max_position_embeddings},
          {"rope_type", "llama3"}};
}

/// Keys that another form of the same fact replaces in what we write, or that would be untrue of it.
constexpr std::array<std::string_view, 5> kReplacedKeys = {"dtype", "rope_parameters", "_name_or_path", "auto_map",
                                                           "quantization_config"};

/// The keys that to_hf_json does not write from a member.
Json other_keys_of(const Json& json, const LlamaConfig& config) {
  const Json written = config.to_hf_json("");
  Json out = Json::object();
  for (const auto& item : json.items()) {
    const bool replaced = std::find(kReplacedKeys.begin(), kReplacedKeys.end(), item.key()) != kReplacedKeys.end();
    if (!replaced && (!written.contains(item.key()) || item.key() == "initializer_range" || item.key() == "use_cache"))
      out[item.key()] = item.value();
  }
  return out;
}

Json optional_id(std::optional<int64_t> id) {
  return id ? Json(*id) : Json(nullptr);
}

}  // namespace

Json eos_to_json(const std::vector<int64_t>& ids) {
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? Json(ids[0]) : Json(ids);
}

void check_llama_shape(const LlamaConfig& c, Problems& problems) {
  if (c.num_kv_heads > 0 && c.num_heads % c.num_kv_heads != 0) {
    problems.add("{} attention heads are not a multiple of {} key-value heads (num_key_value_heads, head_count_kv)",
                 c.num_heads, c.num_kv_heads);
  }
  if (c.head_dim % 2 != 0) problems.add("head_dim {} is odd; rotary embedding needs pairs", c.head_dim);
}

LlamaConfig LlamaConfig::from_hf_json(const Json& json, const std::string& source) {
  require(json.is_object(), ErrorKind::Input, "{}: holds {}; expected an object", source, json.type_name());
  Problems problems(source);
  const Fields fields(json, problems);
  LlamaConfig out;
  check_kind(json, fields, problems, out);
  problems.throw_if_any();  // of another architecture the sizes mean nothing
  read_sizes(fields, problems, out);
  read_tokens(fields, problems, out);
  read_rope(fields, problems, out);
  if (problems.empty()) check_llama_shape(out, problems);
  problems.throw_if_any();
  out.other_keys = other_keys_of(json, out);
  return out;
}

void LlamaConfig::add_generation_config(const Json& json, const std::string& source) {
  require(json.is_object(), ErrorKind::Input, "{}: holds {}; expected an object", source, json.type_name());
  Problems problems(source);
  for (int64_t id : read_eos(Fields(json, problems), problems)) {
    if (std::find(eos_token_ids.begin(), eos_token_ids.end(), id) == eos_token_ids.end()) eos_token_ids.push_back(id);
  }
  problems.throw_if_any();
}

Json LlamaConfig::to_hf_json(const std::string& dtype) const {
  Json out = {{"architectures", {architecture}},
              {"attention_bias", false},
              {"attention_dropout", 0.0},
              {"bos_token_id", optional_id(bos_token_id)},
              {"eos_token_id", eos_to_json(eos_token_ids)},
              {"head_dim", head_dim},
              {"hidden_act", "silu"},
              {"hidden_size", hidden_size},
              {"initializer_range", 0.02},
              {"intermediate_size", intermediate_size},
              {"max_position_embeddings", max_position_embeddings},
              {"mlp_bias", false},
              {"model_type", "llama"},
              {"num_attention_heads", num_heads},
              {"num_hidden_layers", num_layers},
              {"num_key_value_heads", num_kv_heads},
              {"pad_token_id", optional_id(pad_token_id)},
              {"rms_norm_eps", rms_norm_eps},
              {"rope_scaling", rope_to_json(*this)},
              {"rope_theta", rope_theta},
              {"tie_word_embeddings", tie_word_embeddings},
              {"torch_dtype", dtype},
              {"use_cache", true},
              {"vocab_size", vocab_size}};
  out.update(other_keys);
  return out;
}

}  // namespace slmi::formats
