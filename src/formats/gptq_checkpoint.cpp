// GPTQ directories; see the header.
#include "slmi/formats/gptq_checkpoint.h"

#include <algorithm>
#include <array>
#include <set>

#include "config_fields.h"
#include "llama_limits.h"

namespace slmi::formats {
namespace {

namespace fs = std::filesystem;
using quant::GptqScales;
using quant::GptqView;
using quant::GptqZeros;

constexpr std::string_view kQweight = ".qweight";
constexpr std::array<std::string_view, 4> kPlanes = {kQweight, ".qzeros", ".scales", ".g_idx"};

std::string form_name(GptqZeros zeros) {
  return zeros == GptqZeros::MinusOne ? "gptq" : "gptq_v2";
}

/// A group size: -1, or a positive number.
int64_t read_group_size(const Fields& fields, Problems& problems) {
  const int64_t size = fields.integer("group_size", -1, kMaxWidth);
  if (size == 0) problems.add("group_size = 0; expected -1 (one group) or a positive number");
  return size;
}

GptqZeros read_label(const Fields& fields, Problems& problems) {
  const std::string label = fields.text("checkpoint_format", "gptq");
  if (label == "gptq_v2") return GptqZeros::AsIs;
  if (label != "gptq")
    problems.add(
        "checkpoint_format = \"{}\"; read are \"gptq\" and \"gptq_v2\": a file repacked for one kernel does not "
        "load elsewhere",
        label);
  return GptqZeros::MinusOne;
}

/// Layers whose planes lie in `tensors`, by module.
std::set<std::string> modules_in(const TensorMap& tensors) {
  std::set<std::string> out;
  for (const auto& [name, tensor] : tensors) {
    for (const auto plane : kPlanes) {
      if (name.ends_with(plane)) out.insert(name.substr(0, name.size() - plane.size()));
    }
  }
  return out;
}

std::optional<GptqScales> scale_type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F16:
      return GptqScales::F16;
    case Dtype::BF16:
      return GptqScales::BF16;
    case Dtype::F32:
      return GptqScales::F32;
    default:
      return std::nullopt;
  }
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// True if every byte of the stored zeros is this one: two equal nibbles.
bool all_bytes(const GptqView& view, std::byte value) {
  return std::all_of(view.qzeros.begin(), view.qzeros.end(), [=](std::byte b) { return b == value; });
}

/// Reads the layers of one directory.
class LayerReader {
 public:
  LayerReader(TensorMap& tensors, const GptqConfig& config, const std::string& source)
      : tensors_(tensors), config_(config), problems_(source) {}

  GptqLayers run() {
    const auto modules = modules_in(tensors_);
    if (modules.empty()) problems_.add("the configuration says GPTQ, but no tensor ends in '{}'", kQweight);
    for (const auto& module : modules) {
      if (const auto view = read(module)) views_.emplace_back(module, *view);
      for (const auto plane : kPlanes) tensors_.erase(module + std::string(plane));
      take_zero_bias(module);
    }
    choose_zeros();
    problems_.throw_if_any();
    GptqLayers out;
    for (auto& [module, view] : views_)
      out.layers[module + ".weight"] = std::make_shared<const GptqView>(std::move(view));
    out.notes = std::move(notes_);
    return out;
  }

 private:
  /// The plane, if it is there with this type and number of dimensions.
  const SafetensorsTensor* plane(const std::string& module, std::string_view suffix, size_t dimensions) {
    const std::string name = module + std::string(suffix);
    const auto at = tensors_.find(name);
    if (at == tensors_.end()) {
      problems_.add("tensor '{}' is missing, though others of that layer are there", name);
      return nullptr;
    }
    const bool scales = suffix == ".scales";
    if (scales ? !scale_type_of(at->second.dtype) : at->second.dtype != Dtype::I32) {
      problems_.add("tensor '{}' is {}; expected {}", name, dtype_name(at->second.dtype),
                    scales ? "F16, BF16 or F32" : "I32");
      return nullptr;
    }
    if (at->second.shape.size() != dimensions) {
      problems_.add("tensor '{}' is {}; expected {} dimension{}", name, shape_text(at->second.shape), dimensions,
                    dimensions == 1 ? "" : "s");
      return nullptr;
    }
    return &at->second;
  }

  std::optional<GptqView> read(const std::string& module) {
    const auto *qweight = plane(module, kQweight, 2), *qzeros = plane(module, ".qzeros", 2),
               *scales = plane(module, ".scales", 2);
    const bool indexed = tensors_.contains(module + ".g_idx");
    const auto* g_idx = indexed ? plane(module, ".g_idx", 1) : nullptr;
    if (!indexed && config_.desc_act)
      problems_.add("tensor '{}.g_idx' is missing: with desc_act nothing else says which group an input is in", module);
    if (qweight == nullptr || qzeros == nullptr || scales == nullptr || (indexed && g_idx == nullptr)) return {};
    constexpr int64_t kPerWord = 8;
    GptqView view;
    view.k = qweight->shape[0] <= kMaxWidth ? qweight->shape[0] * kPerWord : 0;
    view.n = qweight->shape[1];
    view.groups = scales->shape[0];
    view.scale_type = *scale_type_of(scales->dtype);
    view.group_size = config_.group_size == -1 ? view.k : config_.group_size;
    view.qweight = qweight->bytes;
    view.qzeros = qzeros->bytes;
    view.scales = scales->bytes;
    if (indexed) view.g_idx = g_idx->bytes;
    return check(module, view, *qzeros, *scales) ? std::optional(view) : std::nullopt;
  }

  bool check(const std::string& module, const GptqView& view, const SafetensorsTensor& qzeros,
             const SafetensorsTensor& scales) {
    const size_t before = count_;
    const auto add = [&](const std::string& text) {
      problems_.add("layer '{}': {}", module, text);
      ++count_;
    };
    const Shape want_zeros = {view.groups, view.n / 8}, want_scales = {view.groups, view.n};
    if (qzeros.shape != want_zeros)
      add(fmt::format("qzeros is {}; with {} outputs and {} groups of scales it must be {}", shape_text(qzeros.shape),
                      view.n, view.groups, shape_text(want_zeros)));
    if (scales.shape != want_scales)
      add(fmt::format("scales is {}; with {} outputs it must be {}", shape_text(scales.shape), view.n,
                      shape_text(want_scales)));
    const int64_t groups = view.group_size > 0 ? (view.k + view.group_size - 1) / view.group_size : 0;
    if (groups != view.groups && !config_.other_group_sizes)
      add(
          fmt::format("scales of {} groups, but {} inputs in groups of {} make {}: the configuration's group_size is "
                      "not that of the data",
                      view.groups, view.k, view.group_size, groups));
    if (count_ != before) return false;
    try {
      quant::gptq_check(view, "planes");
    } catch (const Error& e) {
      add(e.what());
    }
    return count_ == before;
  }

  void take_zero_bias(const std::string& module) {
    const auto at = tensors_.find(module + ".bias");
    if (at != tensors_.end() && all_zero(at->second.bytes)) tensors_.erase(at);
  }

  /// Symmetric zeros are 8 everywhere: stored as 7 or as 8, which tells the form. The label is believed only where the
  /// data cannot say.
  void choose_zeros() {
    if (views_.empty()) return;
    GptqZeros zeros = config_.label;
    if (config_.sym) {
      const auto all = [&](std::byte value) {
        return std::all_of(views_.begin(), views_.end(), [&](const auto& v) { return all_bytes(v.second, value); });
      };
      const bool minus_one = all(std::byte{0x77}), as_is = all(std::byte{0x88});
      if (!minus_one && !as_is) {
        problems_.add(
            "sym is true, but the zeros are not all 7 (\"gptq\") or all 8 (\"gptq_v2\"); if they are meant, "
            "set sym to false");
        return;
      }
      zeros = minus_one ? GptqZeros::MinusOne : GptqZeros::AsIs;
      if (zeros != config_.label)
        notes_.push_back(
            fmt::format("checkpoint_format says \"{}\", but the zeros are those of \"{}\"; they are read "
                        "as such",
                        form_name(config_.label), form_name(zeros)));
    }
    for (auto& [module, view] : views_) view.zeros = zeros;
  }

  TensorMap& tensors_;
  const GptqConfig& config_;
  Problems problems_;
  size_t count_ = 0;
  std::vector<std::pair<std::string, GptqView>> views_;
  std::vector<std::string> notes_;
};

}  // namespace

GptqConfig GptqConfig::from_json(const Json& json, const std::string& source) {
  require(json.is_object(), ErrorKind::Input, "{}: holds {}; expected an object", source, json.type_name());
  Problems problems(source);
  const Fields fields(json, problems);
  const std::string method = fields.text("quant_method", "gptq");
  require(
      method == "gptq", ErrorKind::Input,
      "{}: quant_method = \"{}\"; of quantized Hugging Face checkpoints those of GPTQ and of bitsandbytes (NF4) are "
      "read: take one of them, the 16-bit checkpoint or a GGUF file",
      source, method);
  GptqConfig out;
  const int64_t bits = fields.integer("bits", 1, 32);
  if (bits != 4) problems.add("bits = {}; only 4 are supported", bits);
  out.group_size = read_group_size(fields, problems);
  out.desc_act = fields.boolean("desc_act", false);
  out.sym = fields.boolean("sym", true);
  out.label = read_label(fields, problems);
  if (fields.boolean("is_marlin_format", false))
    problems.add("is_marlin_format: planes repacked for one kernel are not read; take the plain GPTQ checkpoint");
  if (const auto pack = fields.text("pack_dtype", "int32"); pack != "int32")
    problems.add("pack_dtype = \"{}\"; only \"int32\" is supported", pack);
  const Json* dynamic = fields.find("dynamic");
  out.other_group_sizes = dynamic != nullptr && !dynamic->empty();
  if (const Json* meta = fields.find("meta"); meta != nullptr && meta->is_object()) out.meta = *meta;
  problems.throw_if_any();
  return out;
}

Json GptqConfig::to_json() const {
  return {{"bits", 4},
          {"group_size", group_size},
          {"desc_act", desc_act},
          {"sym", sym},
          {"lm_head", false},
          {"quant_method", "gptq"},
          {"checkpoint_format", form_name(label)},
          {"pack_dtype", "int32"},
          {"meta", meta}};
}

std::optional<GptqConfig> read_gptq_config(const Json& config_json, const fs::path& directory) {
  std::optional<GptqConfig> inner, file;
  const fs::path path = directory / kQuantizeConfigFile;
  const auto at = config_json.find("quantization_config");
  if (at != config_json.end() && !at->is_null())
    inner = GptqConfig::from_json(*at, (directory / "config.json: quantization_config").string());
  if (fs::exists(path)) file = GptqConfig::from_json(read_json_file(path.string()), path.string());
  if (!inner || !file) return inner ? inner : file;
  Problems problems(directory.string());
  const auto compare = [&](const char* key, auto a, auto b) {
    if (a != b)
      problems.add("config.json's quantization_config says {} = {}, {} says {}", key, a, kQuantizeConfigFile, b);
  };
  compare("group_size", inner->group_size, file->group_size);
  compare("desc_act", inner->desc_act, file->desc_act);
  compare("sym", inner->sym, file->sym);
  problems.throw_if_any();
  return inner;
}

GptqLayers take_gptq_layers(TensorMap& tensors, const std::optional<GptqConfig>& config, const std::string& source) {
  if (config) return LayerReader(tensors, *config, source).run();
  const auto modules = modules_in(tensors);
  require(
      modules.empty(), ErrorKind::Input,
      "{}: holds GPTQ's planes ('{}{}'), but neither config.json has a quantization_config nor is there a {}: which "
      "groups and zeros they have is not known; copy that file too",
      source, modules.empty() ? "" : *modules.begin(), kQweight, kQuantizeConfigFile);
  return {};
}

std::vector<OutputTensor> gptq_tensors(const std::string& module, const GptqView& planes) {
  const auto name = [&](std::string_view plane) { return module + std::string(plane); };
  return {{name(kQweight), Dtype::I32, {planes.k / 8, planes.n}, planes.qweight},
          {name(".qzeros"), Dtype::I32, {planes.groups, planes.n / 8}, planes.qzeros},
          {name(".scales"), Dtype::F16, {planes.groups, planes.n}, planes.scales},
          {name(".g_idx"), Dtype::I32, {planes.k}, planes.g_idx}};
}

}  // namespace slmi::formats
