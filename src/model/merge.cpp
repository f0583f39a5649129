// Merging an adapter into its base; see the header.
#include "slmi/model/merge.h"

#include "slmi/base/error.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/model/model_directory.h"

namespace slmi::model {
namespace {

using formats::Dtype;

Dtype dtype_of(MergeDtype dtype) {
  switch (dtype) {
    case MergeDtype::BF16:
      return Dtype::BF16;
    case MergeDtype::F16:
      return Dtype::F16;
    case MergeDtype::F32:
      break;
  }
  return Dtype::F32;
}

const char* torch_name(Dtype dtype) {
  return dtype == Dtype::BF16 ? "bfloat16" : dtype == Dtype::F16 ? "float16" : "float32";
}

/// Rounds the merged weights to what is written.
class Merger {
 public:
  Merger(const MergedWeights& weights, const formats::Checkpoint& base, const MergeOptions& options)
      : weights_(weights), base_(base), options_(options) {}

  /// Every tensor of the merged model; each is made when its turn to be written comes.
  std::vector<formats::OutputTensor> tensors() {
    std::vector<formats::OutputTensor> out;
    for (const auto& [name, shape] : formats::expected_tensors(base_.config())) {
      const Dtype dtype = written_dtype(base_, name, dtype_of(options_.dtype));
      formats::OutputTensor tensor{name, dtype, shape};
      tensor.produce = [this, name = name, dtype] { return produce(name, dtype); };
      out.push_back(std::move(tensor));
    }
    total_ = static_cast<int64_t>(out.size());
    return out;
  }

 private:
  std::vector<std::byte> produce(const std::string& name, Dtype dtype) {
    const MergedTensor tensor = weights_.tensor(name);
    auto bytes = rounded_bytes(tensor.rows(0, tensor.n()), dtype,
                               fmt::format("{}: tensor '{}'", options_.out.string(), name), ": take --dtype bf16");
    if (options_.progress) options_.progress(++done_, total_);
    return bytes;
  }

  const MergedWeights& weights_;
  const formats::Checkpoint& base_;
  const MergeOptions& options_;
  int64_t done_ = 0, total_ = 0;
};

}  // namespace

MergeResult merge_adapter(const ModelFiles& files, const MergeOptions& options) {
  require(!files.adapter_path.empty() || !options.needs_adapter, ErrorKind::Usage,
          "{}: holds no adapter to merge; give a run or an adapter directory", files.path.string());
  const MergedWeights weights(files, options.onto);
  check_out(files, options.out);
  Merger merger(weights, *files.checkpoint, options);
  const auto tensors = merger.tensors();
  MergeResult result;
  result.merge_base = weights.merge_base();
  result.tensors = static_cast<int64_t>(tensors.size());
  for (const auto& tensor : tensors) result.weight_bytes += tensor.size_bytes();
  const auto provenance = weights.provenance(options.command);
  UnfinishedModel unfinished(options.out);
  write_tokenizer(files, unfinished.path(), options.tokenizer);
  formats::write_hf_directory(unfinished.path(), files.checkpoint->config(), tensors, provenance,
                              {torch_name(dtype_of(options.dtype)), options.max_shard_bytes, provenance.stop_ids});
  unfinished.finish();
  result.adapted = weights.num_adapted();
  return result;
}

}  // namespace slmi::model
