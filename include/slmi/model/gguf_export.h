// A model, its adapter merged on the fly, written as one GGUF file that llama.cpp and what builds on it load; and what
// was written, read again and held against the source.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "slmi/model/merged_weights.h"
#include "slmi/quant/gguf_mix.h"

namespace slmi::model {

/// Done and total weights (elements). May throw to stop.
using WeightProgress = std::function<void(int64_t done, int64_t total)>;

struct GgufExportOptions {
  std::filesystem::path out;
  quant::FileType type = quant::FileType::Q4_K_M;
  std::vector<quant::TypeOverride> overrides;  // the first that matches a tensor's name decides
  std::string name;                            // general.name; "": from the base's file, or the path
  std::string command;                         // for the provenance
  WeightProgress progress;                     // may be empty
  /// How much each input column of a matrix (by Hugging Face's name) counts, f32 [K]; empty: all the same. May be
  /// unset.
  std::function<std::span<const float>(const std::string& hf_name)> importance = {};
  std::string calibration_hash = {};  // of the rows that the importances or the blocks come from
  /// Matrices that are quantized already (by Hugging Face's name and in its row order; empty: not this one), in the
  /// format that plan_gguf gives. May be unset.
  std::function<std::span<const std::byte>(const std::string& hf_name)> blocks = {};
  std::string rounding = {};  // how those came about, for the provenance
};

/// What a tensor of the model becomes in the file.
struct PlannedTensor {
  std::string hf_name, gguf_name;
  formats::Shape shape;
  quant::WeightFormat format = quant::WeightFormat::F32;
  bool copied = false;  // no adapter changes it, and it is stored in this format already
};

/// The tensors of export_gguf with these options, in the file's order.
std::vector<PlannedTensor> plan_gguf(const ModelFiles& files, const MergedWeights& weights,
                                     const GgufExportOptions& options);

struct GgufExportResult {
  int64_t tensors = 0;
  uint64_t file_bytes = 0;
  int64_t num_weights = 0;
  double bits_per_weight = 0.0;  // of all tensors
};

/// Writes `files`' model with the values of `weights`: complete metadata (llama.*, tokenizer.*, the template trained
/// with, slmi.provenance), rope_freqs.weight where llama3 scaling needs it, Q and K rows interleaved, no output.weight
/// for a tied head, norms in f32. A few rows at a time are in memory. A matrix that no adapter changes and that is
/// stored in the wanted type already is copied, not quantized again. Atomic; deterministic, byte for byte.
/// @throws Error{Usage} if `out` is one of the inputs or a directory; Error{Numeric} naming the tensor if a value is
/// not finite in its type; Error{Input} for a vocabulary that llama.cpp cannot do; Error{Output}.
GgufExportResult export_gguf(const ModelFiles& files, const MergedWeights& weights, const GgufExportOptions& options);

/// What quantization did to one tensor.
struct TensorError {
  std::string name;    // GGUF's
  std::string format;  // "Q4_K"
  formats::Shape shape;
  uint64_t bytes = 0;
  double relative_rmse = 0.0;  // sqrt(sum (w - q)^2 / sum w^2); 0 for a tensor of zeros
  double max_error = 0.0;      // largest |w - q|
};

/// Opens `path` with our own reader and holds it against the source: config, tokenizer hash, template, stop ids, every
/// tensor there and finite. Returns every tensor's error, in the file's order.
/// @throws Error{Internal} naming what differs: such a file must not be used.
std::vector<TensorError> verify_gguf(const std::filesystem::path& path, const ModelFiles& files,
                                     const MergedWeights& weights, const WeightProgress& progress = {});

}  // namespace slmi::model
