// bitsandbytes' 4-bit directories: NF4 layers as transformers saves them.
//
// A layer MODULE has MODULE.weight u8 [N*K/2, 1] (value 2j in the HIGH nibble), and beside it MODULE.weight.absmax,
// .quant_map, with double quantization .nested_absmax and .nested_quant_map, and .quant_state.bitsandbytes__nf4: JSON
// bytes. Source: bitsandbytes functional.py, QuantState.as_dict.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/formats/gptq_checkpoint.h"
#include "slmi/quant/nf4.h"

namespace slmi::formats {

/// A layer's planes in a file's bytes, checked.
struct Nf4Layer {
  int64_t n = 0, k = 0;
  std::span<const std::byte> codes;         // u8 [N*K/2]
  std::span<const std::byte> absmax;        // f32 [blocks]; empty if doubly quantized
  std::span<const std::byte> absmax_codes;  // u8 [blocks]
  std::span<const std::byte> absmax2;       // f32 [blocks/256]
  float offset = 0.0f;

  uint64_t bytes() const { return codes.size() + absmax.size() + absmax_codes.size() + absmax2.size(); }
  /// A copy in memory of its own.
  quant::Nf4Matrix matrix() const;
};

/// True if config.json's `quantization_config` says bitsandbytes. @throws Error{Input} naming what is not read of it: 8
/// bits, FP4, codes stored in another type than bytes.
bool is_nf4_config(const Json& config_json, const std::string& source);

/// Takes the layers' planes out of `tensors`; by "MODULE.weight". @throws Error{Input} with every problem: planes that
/// are missing, of a wrong type or size, block sizes other than 64 and 256, code tables other than NF4's.
std::map<std::string, Nf4Layer> take_nf4_layers(TensorMap& tensors, const std::string& source);

/// `quantization_config` for config.json.
Json nf4_config_json(quant::Nf4Scales scales, const std::string& compute_dtype);

/// Tensors of a layer to be written. `matrix` must outlive them, but for what is made here: tables and JSON.
/// @param dtype  of the original weight: "bfloat16".
std::vector<OutputTensor> nf4_tensors(const std::string& module, const quant::Nf4Matrix& matrix,
                                      const std::string& dtype);

}  // namespace slmi::formats
