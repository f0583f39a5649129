// Which format each tensor of a Llama gets for a requested GGUF file type: llama.cpp's mixes, fallbacks and overrides.
#pragma once

#include <cstdint>
#include <regex>
#include <span>
#include <string>
#include <string_view>

#include "slmi/quant/weight_format.h"

namespace slmi::quant {

/// What a whole GGUF file is called by. Most are mixes: Q4_K_M is mostly Q4_K, with Q6_K where it matters most.
enum class FileType { F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, Q3_K_M };

/// Every file type, in the order of the enum: from most to fewest bits.
std::span<const FileType> all_file_types();

/// "Q4_K_M", ...: llama.cpp's spelling.
std::string_view name(FileType type);

/// Inverse of name(), letter case ignored; throws Error{Usage} that lists the known names.
FileType parse_file_type(std::string_view text);

/// Whether the type's quantizers weigh errors by the importance of inputs; the others store every weight alone.
bool uses_importances(FileType type);

/// The number in the key general.file_type (llama.cpp's llama_ftype).
uint32_t file_type_id(FileType type);

/// A user's wish for the tensors whose name holds a match of a pattern.
struct TypeOverride {
  std::string text;  // as given, for messages
  std::regex pattern;
  WeightFormat format;
  bool matches(std::string_view tensor_name) const;
};

/// Parses llama-quantize's --tensor-type form, PATTERN=TYPE: an ECMAScript regular expression, lower-cased, searched
/// for anywhere in the name. Throws Error{Usage} for another form, an expression that does not compile, an unknown
/// type.
TypeOverride parse_type_override(std::string_view text);

/// What the rules look at, beside a tensor's own name and shape.
struct MixModel {
  int64_t num_layers;
  int64_t heads_per_kv_head = 1;  // query heads that share a key head; 1: no grouping
  bool tied_head = false;         // no output.weight: token_embd.weight is the output matrix too
  bool has_importance = false;    // importances are given to the quantizers
};

/// The format of one tensor: a pure function. Vectors, norms and tensors that are no `weight` stay F32.
///
/// Source      llama.cpp src/llama-quant.cpp (2026-08): llama_tensor_get_type and tensor_type_fallback, as they are for
///             a Llama without experts. Where a row is no multiple of 256: Q2_K, Q3_K -> Q4_0, Q4_K -> Q5_0,
///             Q5_K -> Q5_1, Q6_K -> Q8_0; no multiple of 32: F16.
/// Departures  llama.cpp counts attn_v and ffn_down tensors as it meets them, without those that an override took; here
///             the layer's number decides, so that an override changes no other tensor. llama.cpp ignores overrides for
///             F32, F16 and BF16 files; here they hold.
/// @param tensor_name  GGUF name, as "blk.3.attn_v.weight".
/// @param shape        row-major: [n, k] for a matrix, k contiguous.
/// @param overrides    the first that matches decides; fallbacks apply to it too.
WeightFormat tensor_format(FileType type, std::string_view tensor_name, std::span<const int64_t> shape,
                           const MixModel& model, std::span<const TypeOverride> overrides = {});

}  // namespace slmi::quant
