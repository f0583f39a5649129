// Base, adapter, sum; see the header.
#include "slmi/model/merged_weights.h"

#include <ATen/ATen.h>
#include <algorithm>

#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/sha256.h"

namespace slmi::model {
namespace {

using quant::WeightFormat;

bool is_quantized(const formats::Checkpoint& checkpoint) {
  const auto& names = checkpoint.names();
  return std::any_of(names.begin(), names.end(),
                     [&](const auto& name) { return quant::is_quantized(checkpoint.tensor(name).format); });
}

}  // namespace

at::Tensor MergedTensor::rows(int64_t begin, int64_t end) const {
  if (vector_.defined()) return vector_.slice(0, begin, end);
  at::Tensor out = at::empty({end - begin, k_}, at::kFloat);
  matrix_.dequantize_rows_into(out, begin);
  if (!pair_.a.defined()) return out;
  return at::addmm(out, pair_.b.slice(0, begin, end), pair_.a, 1.0, pair_.scale);
}

MergedWeights::MergedWeights(const ModelFiles& files, MergeOnto onto)
    : files_(files), quantized_(is_quantized(*files.checkpoint)) {
  if (files.adapter_path.empty()) {
    if (files.provenance) merge_base_ = files.provenance->merge_base;
    return;
  }
  require(
      !(quantized_ && onto == MergeOnto::W16), ErrorKind::Usage,
      "--onto w16: the base {} is quantized ({}): its 16-bit weights are not in it; take --onto dequant, or name the "
      "16-bit form of this base with --base",
      files.base_path.string(), files.checkpoint->formats_text());
  // Who asks for what training saw on a base of numbers means QLoRA's, whether or not the adapter says so.
  through_nf4_ = onto != MergeOnto::W16 && (files.trained_on_nf4() || (onto == MergeOnto::Dequant && !quantized_));
  merge_base_ = through_nf4_ ? "nf4" : quantized_ ? "dequant" : "w16";
  adapter_ = formats::PeftAdapter::open(files.adapter_path);
  lora_ = Lora::from_adapter(files.checkpoint->config(), *adapter_, at::kCPU);
  for (const auto& slot : lora_.slots()) {
    const auto path = formats::llama_module_path(formats::parse_llama_module(slot.module));
    slots_[fmt::format("model.layers.{}.{}.weight", slot.layer, path)] = &slot;
  }
}

MergedTensor MergedWeights::tensor(const std::string& hf_name) const {
  MergedTensor out;
  out.stored_ = files_.checkpoint->tensor(hf_name);
  out.k_ = out.stored_.shape.back();
  if (out.stored_.shape.size() == 1) {
    out.n_ = 1;
    out.vector_ = at::tensor(formats::to_floats(out.stored_), at::kFloat).unsqueeze(0);
    return out;
  }
  out.n_ = out.stored_.shape[0];
  out.matrix_ = ops::PackedMatrix::from_stored(out.stored_);
  if (takes_nf4(hf_name)) out.matrix_ = out.matrix_.converted_to(WeightFormat::NF4);
  const auto slot = slots_.find(hf_name);
  if (slot == slots_.end()) return out;
  out.pair_ = lora_.pair(slot->second->layer, slot->second->module);
  return out;
}

formats::Provenance MergedWeights::provenance(const std::string& command) const {
  formats::Provenance p = provenance_of(files_, command);
  p.merge_base = merge_base_;
  if (!adapter_) {
    if (files_.provenance) p.adapter = files_.provenance->adapter;
    return p;
  }
  const std::string adapter_hash =
      sha256_hex(MappedFile::open(files_.adapter_path / "adapter_model.safetensors").text());
  // A base that tells no lineage is the beginning of one; its fingerprint stands for it.
  std::vector<std::string> lineage = files_.base.lineage.value_or(std::vector<std::string>{files_.base.fingerprint});
  lineage.push_back(adapter_hash);
  p.base.lineage = std::move(lineage);
  p.adapter = fmt::format("{} sha256:{}", files_.adapter_path.string(), adapter_hash);
  return p;
}

}  // namespace slmi::model
