// bitsandbytes' 4-bit directories; see the header.
#include "slmi/formats/nf4_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "config_fields.h"
#include "llama_limits.h"
#include "slmi/kernels/dynamic_map.h"

namespace slmi::formats {
namespace {

using kernels::kNf4Block;
using kernels::kNf4NestedBlock;

constexpr std::string_view kState = ".quant_state.bitsandbytes__nf4";
constexpr std::string_view kAbsmax = ".absmax", kMap = ".quant_map", kNestedAbsmax = ".nested_absmax",
                           kNestedMap = ".nested_quant_map";

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

template <class T>
std::vector<T> copy_of(std::span<const std::byte> bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

template <class Table>
bool equals(std::span<const std::byte> bytes, const Table& table) {
  return std::ranges::equal(bytes, std::as_bytes(std::span(table)));
}

/// What a layer's JSON says.
struct State {
  int64_t n = 0, k = 0;
  bool nested = false;
  float offset = 0.0F;
};

State read_state(std::span<const std::byte> bytes, const std::string& what, Problems& problems) {
  State out;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Json json;
  try {
    json = parse_json(text, what);
  } catch (const Error& e) {
    problems.add("{}", e.what());
    return out;
  }
  if (!json.is_object()) {
    problems.add("'{}' is {}; expected an object", what, json.type_name());
    return out;
  }
  const Fields fields(json, problems, what + ": ");
  if (const auto type = fields.text("quant_type", "nf4"); type != "nf4")
    problems.add("'{}': quant_type = \"{}\"; only \"nf4\" is supported", what, type);
  if (const int64_t size = fields.integer("blocksize", 1, kMaxWidth); size != kNf4Block)
    problems.add("'{}': blocksize = {}; only {} is supported", what, size, kNf4Block);
  const Json* shape = fields.find("shape");
  const auto dimension = [&](size_t i) { return shape->at(i).is_number_integer() ? shape->at(i).get<int64_t>() : 0; };
  if (shape == nullptr || !shape->is_array() || shape->size() != 2 || dimension(0) < 1 || dimension(1) < 1 ||
      dimension(0) > kMaxVocabulary || dimension(1) > kMaxWidth) {
    problems.add("'{}': shape = {}; expected two dimensions", what, shape == nullptr ? "null" : Fields::shown(*shape));
  } else {
    out.n = dimension(0);
    out.k = dimension(1);
  }
  out.nested = fields.has("nested_offset") || fields.has("nested_blocksize");
  if (!out.nested) return out;
  if (const int64_t size = fields.integer("nested_blocksize", 1, kMaxWidth); size != kNf4NestedBlock)
    problems.add("'{}': nested_blocksize = {}; only {} is supported", what, size, kNf4NestedBlock);
  constexpr double kLargest = 3.4028234663852886e38;
  out.offset = static_cast<float>(fields.number("nested_offset", -kLargest, kLargest));
  return out;
}

class LayerReader {
 public:
  LayerReader(TensorMap& tensors, const std::string& source) : tensors_(tensors), problems_(source) {}

  std::map<std::string, Nf4Layer> run() {
    std::set<std::string> weights;
    for (const auto& [name, tensor] : tensors_)
      if (name.ends_with(kState)) weights.insert(name.substr(0, name.size() - kState.size()));
    if (weights.empty()) problems_.add("the configuration says bitsandbytes, but no tensor ends in '{}'", kState);
    std::map<std::string, Nf4Layer> out;
    for (const auto& weight : weights) {
      const State state =
          read_state(tensors_.at(weight + std::string(kState)).bytes, weight + std::string(kState), problems_);
      if (problems_.empty()) out[weight] = layer(weight, state);
      for (const auto suffix : {std::string_view(""), kState, kAbsmax, kMap, kNestedAbsmax, kNestedMap})
        tensors_.erase(weight + std::string(suffix));
    }
    problems_.throw_if_any();
    return out;
  }

 private:
  std::span<const std::byte> plane(const std::string& weight, std::string_view suffix, Dtype dtype, int64_t elements) {
    const std::string name = weight + std::string(suffix);
    const auto at = tensors_.find(name);
    if (at == tensors_.end()) {
      problems_.add("tensor '{}' is missing, though others of that layer are there", name);
      return {};
    }
    const auto& t = at->second;
    if (t.dtype != dtype || num_elements(t.shape) != static_cast<uint64_t>(elements)) {
      problems_.add("tensor '{}' is {} {}; expected {} with {} elements", name, dtype_name(t.dtype),
                    shape_text(t.shape), dtype_name(dtype), elements);
      return {};
    }
    return t.bytes;
  }

  Nf4Layer layer(const std::string& weight, const State& state) {
    Nf4Layer out;
    out.n = state.n;
    out.k = state.k;
    out.offset = state.offset;
    const int64_t values = state.n * state.k, blocks = ceil_div(values, kNf4Block);
    out.codes = plane(weight, "", Dtype::U8, ceil_div(values, 2));
    if (state.nested) {
      out.absmax_codes = plane(weight, kAbsmax, Dtype::U8, blocks);
      out.absmax2 = plane(weight, kNestedAbsmax, Dtype::F32, ceil_div(blocks, kNf4NestedBlock));
      check_table(weight, kNestedMap, kernels::dynamic_map());
    } else {
      out.absmax = plane(weight, kAbsmax, Dtype::F32, blocks);
    }
    check_table(weight, kMap, kernels::kNf4Code);
    return out;
  }

  template <class Table>
  void check_table(const std::string& weight, std::string_view suffix, const Table& table) {
    const auto bytes = plane(weight, suffix, Dtype::F32, static_cast<int64_t>(table.size()));
    if (!bytes.empty() && !equals(bytes, table))
      problems_.add("tensor '{}{}' is another table than NF4's", weight, suffix);
  }

  TensorMap& tensors_;
  Problems problems_;
};

OutputTensor made_tensor(std::string name, Dtype dtype, std::vector<std::byte> bytes) {
  OutputTensor out{std::move(name), dtype, {static_cast<int64_t>(bytes.size() / dtype_bytes(dtype))}};
  out.produce = [bytes = std::move(bytes)] { return bytes; };
  return out;
}

template <class T>
std::vector<std::byte> bytes_of(std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

quant::Nf4Matrix Nf4Layer::matrix() const {
  quant::Nf4Matrix out;
  out.n = n;
  out.k = k;
  out.codes = copy_of<uint8_t>(codes);
  out.absmax = copy_of<float>(absmax);
  out.absmax_codes = copy_of<uint8_t>(absmax_codes);
  out.absmax2 = copy_of<float>(absmax2);
  out.offset = offset;
  return out;
}

bool is_nf4_config(const Json& config_json, const std::string& source) {
  const auto at = config_json.find("quantization_config");
  if (at == config_json.end() || !at->is_object()) return false;
  Problems problems(source);
  const Fields fields(*at, problems, "quantization_config.");
  const Json* method = fields.find("quant_method");
  if (method == nullptr || *method != "bitsandbytes") return false;
  if (!fields.boolean("load_in_4bit", false))
    problems.add("quantization_config: of bitsandbytes only 4 bits are read; take the 16-bit checkpoint");
  if (const auto type = fields.text("bnb_4bit_quant_type", "fp4"); type != "nf4")
    problems.add("quantization_config.bnb_4bit_quant_type = \"{}\"; only \"nf4\" is supported", type);
  if (const auto storage = fields.text("bnb_4bit_quant_storage", "uint8"); storage != "uint8")
    problems.add("quantization_config.bnb_4bit_quant_storage = \"{}\"; only \"uint8\" is supported", storage);
  problems.throw_if_any();
  return true;
}

std::map<std::string, Nf4Layer> take_nf4_layers(TensorMap& tensors, const std::string& source) {
  return LayerReader(tensors, source).run();
}

Json nf4_config_json(quant::Nf4Scales scales, const std::string& compute_dtype) {
  return {{"_load_in_4bit", true},
          {"_load_in_8bit", false},
          {"bnb_4bit_compute_dtype", compute_dtype},
          {"bnb_4bit_quant_storage", "uint8"},
          {"bnb_4bit_quant_type", "nf4"},
          {"bnb_4bit_use_double_quant", scales == quant::Nf4Scales::Double},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_skip_modules", nullptr},
          {"llm_int8_threshold", 6.0},
          {"load_in_4bit", true},
          {"load_in_8bit", false},
          {"quant_method", "bitsandbytes"}};
}

std::vector<OutputTensor> nf4_tensors(const std::string& module, const quant::Nf4Matrix& m, const std::string& dtype) {
  const std::string weight = module + ".weight";
  const auto name = [&](std::string_view suffix) { return weight + std::string(suffix); };
  Json state = {{"quant_type", "nf4"}, {"blocksize", kNf4Block}, {"dtype", dtype}, {"shape", {m.n, m.k}}};
  std::vector<OutputTensor> out = {
      {weight, Dtype::U8, {static_cast<int64_t>(m.codes.size()), 1}, std::as_bytes(std::span(m.codes))},
      made_tensor(name(kMap), Dtype::F32, bytes_of(std::span<const float>(kernels::kNf4Code)))};
  const auto plane = [&](std::string_view suffix, Dtype type, const auto& values) {
    out.push_back({name(suffix), type, {static_cast<int64_t>(values.size())}, std::as_bytes(std::span(values))});
  };
  if (m.doubly_quantized()) {
    state["nested_blocksize"] = kNf4NestedBlock;
    state["nested_dtype"] = "float32";
    state["nested_offset"] = m.offset;
    plane(kAbsmax, Dtype::U8, m.absmax_codes);
    plane(kNestedAbsmax, Dtype::F32, m.absmax2);
    out.push_back(made_tensor(name(kNestedMap), Dtype::F32, bytes_of(std::span<const float>(kernels::dynamic_map()))));
  } else {
    plane(kAbsmax, Dtype::F32, m.absmax);
  }
  const std::string text = state.dump();
  out.push_back(made_tensor(name(kState), Dtype::U8, bytes_of(std::span<const char>(text))));
  return out;
}

}  // namespace slmi::formats
