// Merging an adapter into its base; see the header.
#include "slmi/model/merge.h"

#include <algorithm>
#include <cstring>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/text/tokenizer_files.h"

namespace slmi::model {
namespace {

namespace fs = std::filesystem;
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

at::ScalarType scalar_type_of(Dtype dtype) {
  return dtype == Dtype::BF16 ? at::kBFloat16 : dtype == Dtype::F16 ? at::kHalf : at::kFloat;
}

bool is_norm(const std::string& name) {
  return name.ends_with("norm.weight");
}

/// True if a conversion to `dtype` and back gives every value again.
bool holds_exactly(Dtype dtype, const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [dtype](float v) {
    if (dtype == Dtype::BF16) return bf16_to_f32(f32_to_bf16(v)) == v;
    if (dtype == Dtype::F16) return f16_to_f32(f32_to_f16(v)) == v;
    return true;
  });
}

/// Rounds the merged weights to what is written.
class Merger {
 public:
  Merger(const MergedWeights& weights, const formats::LlamaConfig& config, const MergeOptions& options)
      : weights_(weights), config_(config), options_(options) {}

  /// Every tensor of the merged model; each is made when its turn to be written comes.
  std::vector<formats::OutputTensor> tensors() {
    std::vector<formats::OutputTensor> out;
    for (const auto& [name, shape] : formats::expected_tensors(config_)) {
      formats::OutputTensor tensor{name, output_dtype(name), shape};
      tensor.produce = [this, name = name, dtype = tensor.dtype] { return produce(name, dtype); };
      out.push_back(std::move(tensor));
    }
    total_ = static_cast<int64_t>(out.size());
    return out;
  }

 private:
  Dtype output_dtype(const std::string& name) const {
    const Dtype dtype = dtype_of(options_.dtype);
    if (!is_norm(name)) return dtype;
    return holds_exactly(dtype, formats::to_floats(weights_.tensor(name).stored())) ? dtype : Dtype::F32;
  }

  std::vector<std::byte> produce(const std::string& name, Dtype dtype) {
    const MergedTensor tensor = weights_.tensor(name);
    const at::Tensor values = tensor.rows(0, tensor.n());
    const at::Tensor rounded = values.to(scalar_type_of(dtype)).contiguous();
    require(at::isfinite(rounded).all().item<bool>(), ErrorKind::Numeric,
            "{}: tensor '{}' is not finite after the merge as {} (largest magnitude {:g}){}", options_.out.string(),
            name, formats::dtype_name(dtype), values.abs().max().item<double>(),
            dtype == Dtype::F16 ? "; f16 ends at 65504: take --dtype bf16" : "; is the adapter, or the base, damaged?");
    std::vector<std::byte> bytes(static_cast<size_t>(rounded.nbytes()));
    std::memcpy(bytes.data(), rounded.data_ptr(), bytes.size());
    if (options_.progress) options_.progress(++done_, total_);
    return bytes;
  }

  const MergedWeights& weights_;
  const formats::LlamaConfig& config_;
  const MergeOptions& options_;
  int64_t done_ = 0, total_ = 0;
};

/// An `out` that is absent, empty, or a model that this program wrote, and not the base itself.
void check_out(const ModelFiles& files, const fs::path& out) {
  std::error_code error;
  if (!fs::exists(out, error)) return;
  require(fs::is_directory(out, error), ErrorKind::Usage, "--out {}: a file; give a directory", out.string());
  for (const auto& input : {files.base_path, files.adapter_path, files.path})
    require(!fs::equivalent(out, input, error), ErrorKind::Usage,
            "--out {}: it is what is merged; input files are never changed: give another directory", out.string());
  const bool ours = fs::exists(out / formats::kProvenanceFile) && !formats::PeftAdapter::is_adapter(out);
  require(fs::is_empty(out, error) || ours, ErrorKind::Usage,
          "--out {}: holds other files already (no merged model of slmi's); give an empty or a new directory",
          out.string());
}

void write_tokenizer(const ModelFiles& files, const MergeOptions& options) {
  const auto& chat_template = files.prompts->chat_template();
  const fs::path from = options.tokenizer.empty() ? files.base_path : fs::path(options.tokenizer);
  text::copy_tokenizer_files(options.out, from, chat_template);
  const auto written = text::Tokenizer::load(options.out);
  require(written->hash() == files.prompts->tokenizer().hash(), ErrorKind::Internal,
          "{}: the tokenizer written there is {:.12}, the base's {} is {:.12}", options.out.string(), written->hash(),
          files.prompts->tokenizer().source(), files.prompts->tokenizer().hash());
}

}  // namespace

MergeResult merge_adapter(const ModelFiles& files, const MergeOptions& options) {
  require(!files.adapter_path.empty(), ErrorKind::Usage,
          "{}: holds no adapter to merge; give a run or an adapter directory", files.path.string());
  const MergedWeights weights(files, options.onto);
  check_out(files, options.out);
  Merger merger(weights, files.checkpoint->config(), options);
  const auto tensors = merger.tensors();
  MergeResult result;
  result.merge_base = weights.merge_base();
  result.tensors = static_cast<int64_t>(tensors.size());
  for (const auto& tensor : tensors) result.weight_bytes += tensor.size_bytes();
  const auto provenance = weights.provenance(options.command);
  // The provenance first: what is cut short is then known as ours, and without config.json it does not load.
  slmi::create_directories(options.out);
  std::error_code ignored;
  fs::remove(options.out / "config.json", ignored);
  formats::write_provenance(options.out, provenance);
  write_tokenizer(files, options);
  formats::write_hf_directory(options.out, files.checkpoint->config(), tensors, provenance,
                              {torch_name(dtype_of(options.dtype)), options.max_shard_bytes, provenance.stop_ids});
  result.adapted = weights.num_adapted();
  return result;
}

}  // namespace slmi::model
