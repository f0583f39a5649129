// A model's projections in NF4; see the header.
#include "slmi/calib/nf4_model.h"

#include <algorithm>
#include <deque>

#include "slmi/base/error.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/formats/nf4_checkpoint.h"
#include "slmi/model/model_directory.h"
#include "slmi/ops/nf4_tensors.h"

namespace slmi::calib {
namespace {

namespace fs = std::filesystem;

quant::Nf4Matrix quantized(const at::Tensor& weight, const std::string& name, const Nf4ModelOptions& options) {
  const at::Tensor values = weight.contiguous();
  try {
    if (!options.device.is_cpu()) return ops::to_matrix(ops::nf4_quantize(values.to(options.device), options.scales));
    return quant::nf4_quantize({values.const_data_ptr<float>(), static_cast<size_t>(values.numel())}, values.size(0),
                               values.size(1), {options.scales, {}});
  } catch (const Error& e) {
    throw Error(e.kind(), fmt::format("{}: {}", name, e.what()));
  }
}

}  // namespace

Nf4ModelResult write_nf4_model(const model::ModelFiles& files, const WeightSource& weights,
                               const formats::Provenance& provenance, const fs::path& out,
                               const Nf4ModelOptions& options) {
  model::check_out(files, out);
  model::UnfinishedModel unfinished(out);
  const auto expected = formats::expected_tensors(files.checkpoint->config());
  const auto is_projection = [](const std::string& name) { return name.ends_with("_proj.weight"); };
  const int64_t total =
      std::count_if(expected.begin(), expected.end(), [&](const auto& t) { return is_projection(t.name); });
  Nf4ModelResult result;
  std::deque<quant::Nf4Matrix> matrices;  // the tensors look into them
  std::vector<formats::OutputTensor> tensors;
  for (const auto& [name, shape] : expected) {
    if (!is_projection(name)) {
      tensors.push_back(number_tensor(name, shape, formats::Dtype::BF16, *files.checkpoint, weights));
      continue;
    }
    const auto& matrix = matrices.emplace_back(quantized(weights(name), name, options));
    const std::string module = name.substr(0, name.size() - std::string_view(".weight").size());
    for (auto& tensor : formats::nf4_tensors(module, matrix, "bfloat16")) tensors.push_back(std::move(tensor));
    if (options.progress) options.progress(++result.matrices, total);
  }
  result.matrices = total;
  for (const auto& tensor : tensors) result.weight_bytes += tensor.size_bytes();
  model::write_tokenizer(files, unfinished.path(), options.tokenizer);
  formats::HfWriteOptions write;
  write.dtype = "bfloat16";
  write.max_shard_bytes = options.max_shard_bytes;
  write.stop_ids = provenance.stop_ids;
  write.quantization = formats::nf4_config_json(options.scales, "bfloat16");
  formats::write_hf_directory(unfinished.path(), files.checkpoint->config(), tensors, provenance, write);
  unfinished.finish();
  return result;
}

}  // namespace slmi::calib
