// GPTQ directories: what their configuration says, and the planes of their layers.
//
// A layer MODULE has MODULE.qweight, .qzeros, .scales and usually .g_idx (quant/gptq_packing.h) in place of
// MODULE.weight; embedding, head and norms are stored as in any other directory.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/formats/safetensors.h"
#include "slmi/quant/gptq_packing.h"

namespace slmi::formats {

inline constexpr const char* kQuantizeConfigFile = "quantize_config.json";

/// `quantization_config` of config.json, which GPTQ programs also write as quantize_config.json.
struct GptqConfig {
  int64_t group_size = 128;  // -1: one group a layer
  bool desc_act = false;     // columns were quantized by falling activation; g_idx is unordered
  bool sym = true;
  quant::GptqZeros label = quant::GptqZeros::MinusOne;  // as checkpoint_format says; the data decide
  bool other_group_sizes = false;                       // `dynamic` may give layers a group size of their own
  Json meta = Json::object();                           // quantizer, damping, ...: for people

  /// @throws Error{Input} with every problem: another method, other bits, wrong types, a form repacked for one kernel.
  static GptqConfig from_json(const Json& json, const std::string& source);
  Json to_json() const;
};

/// The configuration of a directory, from config.json's `quantization_config` and quantize_config.json; empty if the
/// model is not quantized. @throws Error{Input} if it is quantized by another method, or if the two contradict.
std::optional<GptqConfig> read_gptq_config(const Json& config_json, const std::filesystem::path& directory);

/// One file's tensors by name; `bytes` stay the file's.
using TensorMap = std::map<std::string, SafetensorsTensor, std::less<>>;

struct GptqLayers {
  std::map<std::string, std::shared_ptr<const quant::GptqView>> layers;  // by "MODULE.weight"
  std::vector<std::string> notes;                                        // what the user should know
};

/// Takes the layers' planes out of `tensors`, with biases that are all zero (old programs write them everywhere).
/// Zeros of symmetric layers say themselves whether they are stored minus one; a label that says otherwise is a note.
/// @param config  empty: planes that are found are an error that says which configuration is missing.
/// @throws Error{Input} with every problem: planes that are missing, of a wrong type or shape, or that contradict the
///         configuration.
GptqLayers take_gptq_layers(TensorMap& tensors, const std::optional<GptqConfig>& config, const std::string& source);

/// Tensors of a layer to be written, MODULE.qweight first; `planes` must outlive them.
std::vector<OutputTensor> gptq_tensors(const std::string& module, const quant::GptqView& planes);

}  // namespace slmi::formats
