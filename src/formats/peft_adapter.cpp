// PEFT adapter directories; see the header.
#include "slmi/formats/peft_adapter.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>

#include "config_fields.h"
#include "slmi/base/atomic_file.h"

namespace slmi::formats {
namespace {

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.model.layers.";
constexpr int64_t kMaxRank = 65536;

struct ModuleInfo {
  std::string_view name, path;
};
constexpr std::array<ModuleInfo, kNumLlamaModules> kModules = {{{"q_proj", "self_attn.q_proj"},
                                                                {"k_proj", "self_attn.k_proj"},
                                                                {"v_proj", "self_attn.v_proj"},
                                                                {"o_proj", "self_attn.o_proj"},
                                                                {"gate_proj", "mlp.gate_proj"},
                                                                {"up_proj", "mlp.up_proj"},
                                                                {"down_proj", "mlp.down_proj"}}};

std::optional<LlamaModule> find_module(std::string_view name) {
  for (size_t i = 0; i < kModules.size(); ++i) {
    if (kModules[i].name == name) return static_cast<LlamaModule>(i);
  }
  return std::nullopt;
}

/// Keys that PEFT honours and we do not: false, null, empty or absent they mean nothing.
constexpr std::array<const char*, 15> kUnsupported = {"use_dora",
                                                      "modules_to_save",
                                                      "fan_in_fan_out",
                                                      "lora_bias",
                                                      "layer_replication",
                                                      "megatron_config",
                                                      "trainable_token_indices",
                                                      "target_parameters",
                                                      "use_qalora",
                                                      "alora_invocation_tokens",
                                                      "arrow_config",
                                                      "use_bdlora",
                                                      "kasa_config",
                                                      "velora_config",
                                                      "monteclora_config"};

bool means_nothing(const Json& value) {
  return value.is_null() || value == false || ((value.is_array() || value.is_object()) && value.empty());
}

/// Starting values that also change the base's weights: without the changed base the adapter means something else.
bool changes_base(const std::string& init) {
  static const std::array<std::string_view, 5> kPrefixes = {"pissa", "olora", "corda", "loftq", "lora_ga"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(), [&](auto p) { return init.starts_with(p); });
}

/// rank_pattern and alpha_pattern: harmless only where they repeat r and lora_alpha.
void check_pattern(const Fields& fields, const char* key, double usual, Problems& problems) {
  const Json* pattern = fields.find(key);
  if (pattern == nullptr) return;
  bool harmless = pattern->is_object();
  if (harmless) {
    for (const auto& item : pattern->items()) harmless = harmless && item.value().is_number() && item.value() == usual;
  }
  if (!harmless) problems.add("{} = {}: one rank and alpha for all modules is supported", key, Fields::shown(*pattern));
}

void read_targets(const Fields& fields, Problems& problems, PeftConfig& out) {
  const Json* targets = fields.find("target_modules");
  if (targets == nullptr) return problems.add("target_modules is missing");
  if (targets->is_string()) return;  // a pattern: the tensors say what it matched
  if (!targets->is_array()) return problems.add("target_modules is {}; expected a list", targets->type_name());
  std::set<LlamaModule> modules;
  for (const Json& target : *targets) {
    const std::string text = target.is_string() ? target.get<std::string>() : std::string();
    const auto module = find_module(std::string_view(text).substr(text.rfind('.') + 1));
    if (module) {
      modules.insert(*module);
    } else {
      problems.add(
          "target_modules: {} is not supported; the modules are q_proj, k_proj, v_proj, o_proj, gate_proj, "
          "up_proj, down_proj",
          Fields::shown(target));
    }
  }
  for (LlamaModule m : modules) out.target_modules.emplace_back(llama_module_name(m));
}

struct TensorName {
  int64_t layer;
  LlamaModule module;
  LoraSide side;
};

std::optional<TensorName> parse_tensor_name(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const auto rest = name.substr(kPrefix.size());
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  if (error != std::errc() || layer < 0) return std::nullopt;
  for (size_t i = 0; i < kModules.size(); ++i) {
    for (LoraSide side : {LoraSide::A, LoraSide::B}) {
      const auto module = static_cast<LlamaModule>(i);
      if (name == peft_tensor_name(layer, module, side)) return TensorName{layer, module, side};
    }
  }
  return std::nullopt;
}

void check_pairs(const std::map<std::pair<int64_t, LlamaModule>, AdapterPair>& pairs, int64_t r, Problems& problems) {
  for (const auto& [key, pair] : pairs) {
    const auto path = fmt::format("layers.{}.{}", key.first, llama_module_path(key.second));
    if (pair.a.rows == 0 || pair.b.rows == 0) {
      problems.add("{} has no lora_{}", path, pair.a.rows == 0 ? 'A' : 'B');
    } else if (pair.a.rows != r || pair.b.columns != r) {
      problems.add("{}: lora_A [{}, {}], lora_B [{}, {}]; the config's r is {}", path, pair.a.rows, pair.a.columns,
                   pair.b.rows, pair.b.columns, r);
    }
  }
}

}  // namespace

std::string_view llama_module_name(LlamaModule module) {
  return kModules[static_cast<size_t>(module)].name;
}
std::string_view llama_module_path(LlamaModule module) {
  return kModules[static_cast<size_t>(module)].path;
}

LlamaModule parse_llama_module(std::string_view name) {
  const auto out = find_module(name);
  require(out.has_value(), ErrorKind::Usage,
          "module '{}'; expected one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj", name);
  return *out;
}

std::string peft_tensor_name(int64_t layer, LlamaModule module, LoraSide side) {
  return fmt::format("{}{}.{}.lora_{}.weight", kPrefix, layer, llama_module_path(module),
                     side == LoraSide::A ? 'A' : 'B');
}

double PeftConfig::scale() const {
  const auto rank = static_cast<double>(r);
  return alpha / (use_rslora ? std::sqrt(rank) : rank);
}

std::vector<float> AdapterMatrix::floats() const {
  return floats_from(dtype, bytes, "adapter matrix");
}

PeftConfig parse_peft_config(const Json& json, const std::string& source) {
  require(json.is_object(), ErrorKind::Input, "{}: holds {}; expected an object", source, json.type_name());
  Problems problems(source);
  const Fields fields(json, problems);
  PeftConfig out;
  if (const auto type = fields.text("peft_type", ""); type != "LORA") {
    problems.add("peft_type = \"{}\"; only \"LORA\" is supported", type);
  }
  if (const auto task = fields.text("task_type", "CAUSAL_LM"); task != "CAUSAL_LM") {
    problems.add("task_type = \"{}\"; only \"CAUSAL_LM\" is supported", task);
  }
  if (const auto bias = fields.text("bias", "none"); bias != "none") {
    problems.add("bias = \"{}\"; only \"none\" is supported", bias);
  }
  for (const char* key : kUnsupported) {
    const auto at = json.find(key);
    if (at != json.end() && !means_nothing(*at)) problems.add("{} = {} is not supported", key, Fields::shown(*at));
  }
  const auto init = json.find("init_lora_weights");
  if (init != json.end() && init->is_string() && changes_base(init->get<std::string>())) {
    problems.add("init_lora_weights = {}: it changes the base's weights; convert the adapter to plain LoRA",
                 Fields::shown(*init));
  }
  out.r = fields.integer("r", 1, kMaxRank, 8);
  out.alpha = fields.number("lora_alpha", -1e9, 1e9, 8.0);
  out.dropout = fields.number("lora_dropout", 0.0, 1.0, 0.0);
  out.use_rslora = fields.boolean("use_rslora", false);
  out.base_model_name_or_path = fields.text("base_model_name_or_path", "");
  check_pattern(fields, "rank_pattern", static_cast<double>(out.r), problems);
  check_pattern(fields, "alpha_pattern", out.alpha, problems);
  read_targets(fields, problems, out);
  problems.throw_if_any();
  return out;
}

bool PeftAdapter::is_adapter(const std::filesystem::path& directory) {
  return std::filesystem::exists(directory / kConfigFile);
}

PeftAdapter PeftAdapter::open(const std::filesystem::path& directory) {
  const auto config_path = (directory / kConfigFile).string();
  const auto config = parse_peft_config(read_json_file(config_path), config_path);
  const bool pickled =
      !std::filesystem::exists(directory / kWeightsFile) && std::filesystem::exists(directory / "adapter_model.bin");
  require(!pickled, ErrorKind::Input,
          "{}: adapter_model.bin is pickled and never read; save the adapter as safetensors", directory.string());
  auto out = from_parts(config, SafetensorsFile::open(directory / kWeightsFile));
  out.path_ = directory;
  return out;
}

PeftAdapter PeftAdapter::from_parts(const PeftConfig& config, const SafetensorsFile& file) {
  PeftAdapter out;
  out.config_ = config;
  out.file_ = file;
  Problems problems(out.file_.source());
  for (const auto& [name, tensor] : out.file_.tensors()) {
    const auto parsed = parse_tensor_name(name);
    const bool floats = tensor.dtype == Dtype::F32 || tensor.dtype == Dtype::F16 || tensor.dtype == Dtype::BF16;
    if (!parsed) {
      problems.add("tensor '{}' is not supported; expected {}N.MODULE.lora_A.weight or lora_B", name, kPrefix);
    } else if (!floats || tensor.shape.size() != 2 || tensor.shape[0] == 0 || tensor.shape[1] == 0) {
      problems.add("tensor '{}' is {} {}; expected a matrix of F32, F16 or BF16", name, dtype_name(tensor.dtype),
                   shape_text(tensor.shape));
    } else {
      auto& pair = out.pairs_[{parsed->layer, parsed->module}];
      (parsed->side == LoraSide::A ? pair.a : pair.b) =
          AdapterMatrix{tensor.dtype, tensor.shape[0], tensor.shape[1], tensor.bytes};
    }
  }
  if (out.pairs_.empty()) problems.add("holds no LoRA matrices");
  check_pairs(out.pairs_, out.config_.r, problems);
  out.check_targets(problems.empty() ? &problems : nullptr);
  problems.throw_if_any();
  return out;
}

void PeftAdapter::check_targets(Problems* problems) {
  std::set<LlamaModule> present;
  for (const auto& [key, pair] : pairs_) present.insert(key.second);
  auto& listed = config_.target_modules;
  if (listed.empty()) {
    for (LlamaModule m : present) listed.emplace_back(llama_module_name(m));
  }
  if (problems == nullptr) return;
  for (LlamaModule m : present) {
    const bool found = std::find(listed.begin(), listed.end(), llama_module_name(m)) != listed.end();
    if (!found) problems->add("holds matrices of {}, which target_modules does not list", llama_module_name(m));
  }
  for (const auto& name : listed) {
    if (!present.contains(parse_llama_module(name))) problems->add("holds no matrices of {}, a target module", name);
  }
}

void write_peft_adapter(const std::filesystem::path& directory, const PeftConfig& config,
                        std::span<const OutputTensor> tensors) {
  slmi::create_directories(directory);
  write_safetensors(directory / kWeightsFile, tensors);
  const Json json = {{"alpha_pattern", Json::object()},
                     {"auto_mapping", nullptr},
                     {"base_model_name_or_path", config.base_model_name_or_path},
                     {"bias", "none"},
                     {"fan_in_fan_out", false},
                     {"inference_mode", true},
                     {"init_lora_weights", true},
                     {"layers_pattern", nullptr},
                     {"layers_to_transform", nullptr},
                     {"lora_alpha", config.alpha},
                     {"lora_dropout", config.dropout},
                     {"modules_to_save", nullptr},
                     {"peft_type", "LORA"},
                     {"r", config.r},
                     {"rank_pattern", Json::object()},
                     {"target_modules", config.target_modules},
                     {"task_type", "CAUSAL_LM"},
                     {"use_dora", false},
                     {"use_rslora", config.use_rslora}};
  write_file_atomically(directory / kConfigFile, json.dump(2) + "\n");
}

}  // namespace slmi::formats
