// The weights of a model with its adapter put in, made as f32 a few rows at a time: what merging and exporting write.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "slmi/model/lora.h"
#include "slmi/model/open.h"

namespace slmi::model {

/// What the update is added to. Auto: what the adapter's provenance says that training saw; without one, W16 where the
/// base holds 16- or 32-bit numbers, Dequant where it is quantized.
enum class MergeOnto {
  Auto,
  W16,      // the numbers of a 16- or 32-bit base
  Dequant,  // what training saw: the projections through NF4, or a quantized base's own values where the adapter does
            // not say that it was trained on NF4
};

/// One tensor of the merged model.
class MergedTensor {
 public:
  /// The base's, as stored.
  const formats::StoredTensor& stored() const { return stored_; }
  /// [N, K]; a norm is one row.
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  /// Rows [begin, end) in Hugging Face's order: W + s B A, summed in f32.
  at::Tensor rows(int64_t begin, int64_t end) const;  // f32 [end - begin, K]

 private:
  friend class MergedWeights;
  formats::StoredTensor stored_;
  ops::PackedMatrix matrix_;
  at::Tensor vector_;   // f32 [1, K], of a norm
  ops::LoraPair pair_;  // undefined where there is no adapter
  int64_t n_ = 0, k_ = 0;
};

/// A source of merged tensors; `files` must outlive it. Works without an adapter too: the base's own values.
class MergedWeights {
 public:
  /// @throws Error{Usage} for W16 on a quantized base that has an adapter; Error{Input} if the adapter does not fit.
  MergedWeights(const ModelFiles& files, MergeOnto onto);
  MergedWeights(const MergedWeights&) = delete;
  MergedWeights& operator=(const MergedWeights&) = delete;

  /// True if a tensor's values are not the stored ones: an adapter changes them, or was trained on others.
  bool changes(const std::string& hf_name) const { return takes_nf4(hf_name) || slots_.contains(hf_name); }
  /// @throws Error{Input} naming the tensor if it is absent.
  MergedTensor tensor(const std::string& hf_name) const;
  /// True if the base's weights are quantized: published in that form, so that what is made of them has lost already.
  bool quantized_base() const { return quantized_; }
  /// "w16", "dequant" or "nf4" (dequantized from it); "" without an adapter, unless the files say what an earlier merge
  /// took.
  const std::string& merge_base() const { return merge_base_; }
  /// Matrices that an adapter changes.
  int64_t num_adapted() const { return static_cast<int64_t>(slots_.size()); }
  /// slmi.json of what is made of these weights: lineage (the base's, then the SHA-256 of the adapter's weights),
  /// template, stop ids, adapter and merge base.
  formats::Provenance provenance(const std::string& command) const;

 private:
  bool takes_nf4(const std::string& hf_name) const { return through_nf4_ && hf_name.ends_with("_proj.weight"); }

  const ModelFiles& files_;
  bool quantized_ = false, through_nf4_ = false;
  std::string merge_base_;
  std::optional<formats::PeftAdapter> adapter_;
  Lora lora_;
  std::map<std::string, const Lora::Slot*> slots_;  // by Hugging Face's tensor name
};

}  // namespace slmi::model
