// An adapter put into its base: W + s B A of every adapted projection, written as a Hugging Face directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "slmi/model/merged_weights.h"

namespace slmi::model {

enum class MergeDtype { BF16, F16, F32 };

struct MergeOptions {
  std::filesystem::path out;
  MergeDtype dtype = MergeDtype::BF16;
  MergeOnto onto = MergeOnto::Auto;
  std::string tokenizer;  // as OpenOptions: a file or directory; "": the base's
  std::string command;    // for the provenance
  uint64_t max_shard_bytes = 5'000'000'000;
  bool needs_adapter = true;                                  // false: a base alone is written too, as `dtype`
  std::function<void(int64_t done, int64_t total)> progress;  // tensors; may be empty
};

struct MergeResult {
  int64_t tensors = 0, adapted = 0;
  uint64_t weight_bytes = 0;
  std::string merge_base;  // "w16" or "dequant"
};

/// Writes `files`' base with its adapter merged in: sums in f32, each rounded once to `dtype`, one matrix in memory at
/// a time. Norms that `dtype` cannot hold exactly stay f32, so that the fingerprint is the base's. slmi.json records
/// base, lineage (the base's, then the SHA-256 of the adapter's weights), template and merge base; tokenizer files come
/// along, with the template that the adapter was trained with.
/// @throws Error{Usage} if `files` has no adapter and needs one, for W16 on a quantized base, and for an `out` that is
/// not empty and not a model of ours; Error{Numeric} naming the tensor if a sum is not finite in `dtype`; Error{Input}
/// if the adapter does not fit; Error{Output}. After an error `out` is as it was (UnfinishedModel).
MergeResult merge_adapter(const ModelFiles& files, const MergeOptions& options);

}  // namespace slmi::model
