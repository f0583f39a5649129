// llama.cpp's choice of a format for each tensor.
#include "slmi/quant/gguf_mix.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "slmi/base/error.h"
#include "slmi/base/suggest.h"
#include "slmi/quant/gguf_codec.h"

namespace slmi::quant {

namespace {

struct FileTypeFacts {
  FileType type;
  std::string_view name;
  uint32_t id;
  WeightFormat base;  // what most matrices get
};

constexpr std::array kFacts = {
    FileTypeFacts{FileType::F32, "F32", 0, WeightFormat::F32},
    FileTypeFacts{FileType::F16, "F16", 1, WeightFormat::F16},
    FileTypeFacts{FileType::BF16, "BF16", 32, WeightFormat::BF16},
    FileTypeFacts{FileType::Q8_0, "Q8_0", 7, WeightFormat::Q8_0},
    FileTypeFacts{FileType::Q6_K, "Q6_K", 18, WeightFormat::Q6_K},
    FileTypeFacts{FileType::Q5_K_M, "Q5_K_M", 17, WeightFormat::Q5_K},
    FileTypeFacts{FileType::Q4_K_M, "Q4_K_M", 15, WeightFormat::Q4_K},
    FileTypeFacts{FileType::Q4_0, "Q4_0", 2, WeightFormat::Q4_0},
    FileTypeFacts{FileType::Q3_K_M, "Q3_K_M", 12, WeightFormat::Q3_K},
};

constexpr std::array kTypes = [] {
  std::array<FileType, kFacts.size()> out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = kFacts[i].type;
  return out;
}();

const FileTypeFacts& facts(FileType type) {
  return *std::find_if(kFacts.begin(), kFacts.end(), [type](const FileTypeFacts& f) { return f.type == type; });
}

std::string with_case(std::string_view text, int (*change)(int)) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [change](unsigned char c) { return static_cast<char>(change(c)); });
  return out;
}

bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// N of "blk.N."; -1 for a tensor of no layer.
int64_t layer_of(std::string_view tensor_name) {
  constexpr std::string_view kPrefix = "blk.";
  int64_t layer = -1;
  if (tensor_name.starts_with(kPrefix)) {
    const std::string_view rest = tensor_name.substr(kPrefix.size());
    std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  }
  return layer;
}

/// The first and last eighth of the layers and every third between: where the _M mixes spend bits.
bool gets_more_bits(int64_t layer, int64_t num_layers) {
  return layer < num_layers / 8 || layer >= 7 * num_layers / 8 || (layer - num_layers / 8) % 3 == 2;
}

WeightFormat output_format(WeightFormat base, int64_t row_length) {
  if (row_length % block_size(base) != 0 || base == WeightFormat::Q8_0) return WeightFormat::Q8_0;
  return WeightFormat::Q6_K;
}

WeightFormat attn_v_format(FileType type, WeightFormat base, int64_t layer, const MixModel& model) {
  WeightFormat format = base;
  if (type == FileType::Q3_K_M) {
    format = layer < 2 ? WeightFormat::Q5_K : WeightFormat::Q4_K;
  } else if (type == FileType::Q4_K_M || type == FileType::Q5_K_M) {
    format = gets_more_bits(layer, model.num_layers) ? WeightFormat::Q6_K : base;
  }
  // The 70B model: eight heads share these matrices, so more bits cost little.
  const bool is_70b = model.num_layers == 80 && model.heads_per_kv_head > 1;
  return is_70b && (format == WeightFormat::Q3_K || format == WeightFormat::Q4_K) ? WeightFormat::Q5_K : format;
}

WeightFormat ffn_down_format(FileType type, WeightFormat base, int64_t layer, const MixModel& model) {
  switch (type) {
    case FileType::Q3_K_M:
      return layer < model.num_layers / 16 ? WeightFormat::Q5_K : WeightFormat::Q4_K;
    case FileType::Q4_K_M:
    case FileType::Q5_K_M:
      return gets_more_bits(layer, model.num_layers) ? WeightFormat::Q6_K : base;
    case FileType::Q4_0:
      return model.has_importance && layer < model.num_layers / 8 ? WeightFormat::Q4_1 : base;
    default:
      return base;
  }
}

/// The mix's wish, before the row's length is looked at.
WeightFormat mixed_format(FileType type, std::string_view tensor_name, int64_t row_length, const MixModel& model) {
  const WeightFormat base = facts(type).base;
  if (!is_quantized(base)) return base;
  const bool is_output = tensor_name == "output.weight" || (model.tied_head && tensor_name == "token_embd.weight");
  if (is_output) return output_format(base, row_length);
  const int64_t layer = layer_of(tensor_name);
  if (holds(tensor_name, "attn_v.weight")) return attn_v_format(type, base, layer, model);
  if (holds(tensor_name, "ffn_down")) return ffn_down_format(type, base, layer, model);
  if (holds(tensor_name, "attn_output.weight") && type == FileType::Q3_K_M) return WeightFormat::Q4_K;
  return base;
}

/// A format whose blocks fit a row of this length.
WeightFormat fitting_format(WeightFormat wanted, int64_t row_length) {
  if (row_length % block_size(wanted) == 0) return wanted;
  const auto smaller = [wanted] {
    switch (wanted) {
      case WeightFormat::Q2_K:
      case WeightFormat::Q3_K:
        return WeightFormat::Q4_0;
      case WeightFormat::Q4_K:
        return WeightFormat::Q5_0;
      case WeightFormat::Q5_K:
        return WeightFormat::Q5_1;
      case WeightFormat::Q6_K:
        return WeightFormat::Q8_0;
      default:
        return wanted;
    }
  }();
  return row_length % block_size(smaller) == 0 ? smaller : WeightFormat::F16;
}

bool is_quantizable(std::string_view tensor_name, std::span<const int64_t> shape) {
  return shape.size() >= 2 && tensor_name.ends_with("weight") && !holds(tensor_name, "_norm.weight");
}

}  // namespace

std::span<const FileType> all_file_types() {
  return kTypes;
}

std::string_view name(FileType type) {
  return facts(type).name;
}

FileType parse_file_type(std::string_view text) {
  const std::string wanted = with_case(text, std::toupper);
  std::vector<std::string> names;
  for (const FileTypeFacts& f : kFacts) {
    if (f.name == wanted) return f.type;
    names.emplace_back(f.name);
  }
  const std::string near = nearest_name(wanted, names);
  fail(ErrorKind::Usage, "GGUF file type '{}': no such type{}; there are {}", text,
       near.empty() ? "" : ", did you mean " + near + "?", fmt::join(names, ", "));
}

bool uses_importances(FileType type) {
  return type != FileType::F32 && type != FileType::F16 && type != FileType::BF16 && type != FileType::Q8_0;
}

uint32_t file_type_id(FileType type) {
  return facts(type).id;
}

bool TypeOverride::matches(std::string_view tensor_name) const {
  return std::regex_search(tensor_name.begin(), tensor_name.end(), pattern);
}

TypeOverride parse_type_override(std::string_view text) {
  const size_t equals = text.find('=');
  require(equals != std::string_view::npos && equals > 0 && equals + 1 < text.size(), ErrorKind::Usage,
          "tensor type '{}': expected PATTERN=TYPE, as ffn_down=q6_k", text);
  TypeOverride out{.text = std::string(text), .pattern = {}, .format = parse_weight_format(text.substr(equals + 1))};
  require(can_quantize(out.format), ErrorKind::Usage, "tensor type '{}': GGUF files have no {}", text,
          name(out.format));
  try {
    out.pattern = std::regex(with_case(text.substr(0, equals), std::tolower));
  } catch (const std::regex_error& error) {
    fail(ErrorKind::Usage, "tensor type '{}': the pattern is no regular expression: {}", text, error.what());
  }
  return out;
}

WeightFormat tensor_format(FileType type, std::string_view tensor_name, std::span<const int64_t> shape,
                           const MixModel& model, std::span<const TypeOverride> overrides) {
  if (!is_quantizable(tensor_name, shape)) return WeightFormat::F32;
  const int64_t row_length = shape.back();
  for (const TypeOverride& wish : overrides) {
    if (wish.matches(tensor_name)) return fitting_format(wish.format, row_length);
  }
  return fitting_format(mixed_format(type, tensor_name, row_length, model), row_length);
}

}  // namespace slmi::quant
