// What the writers of quantized models have in common; see the header.
#include "model_directory.h"

#include <algorithm>
#include <cstring>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/formats/provenance.h"
#include "slmi/text/tokenizer_files.h"

namespace slmi::calib {
namespace {

namespace fs = std::filesystem;
using formats::Dtype;

at::ScalarType scalar_type_of(Dtype dtype) {
  return dtype == Dtype::F16 ? at::kHalf : dtype == Dtype::BF16 ? at::kBFloat16 : at::kFloat;
}

bool holds_exactly(Dtype dtype, const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [dtype](float v) {
    return (dtype == Dtype::F16 ? f16_to_f32(f32_to_f16(v)) : bf16_to_f32(f32_to_bf16(v))) == v;
  });
}

std::vector<std::byte> bytes_of(const at::Tensor& values, Dtype dtype, const std::string& name) {
  const at::Tensor rounded = values.to(scalar_type_of(dtype)).contiguous();
  require(at::isfinite(rounded).all().item<bool>(), ErrorKind::Numeric, "tensor '{}' is not finite as {}{}", name,
          formats::dtype_name(dtype), dtype == Dtype::F16 ? ", which ends at 65504" : "");
  std::vector<std::byte> out(static_cast<size_t>(rounded.nbytes()));
  std::memcpy(out.data(), rounded.data_ptr(), out.size());
  return out;
}

}  // namespace

void check_out(const model::ModelFiles& files, const fs::path& out, bool ours) {
  std::error_code error;
  if (!fs::exists(out, error)) return;
  require(fs::is_directory(out, error), ErrorKind::Usage, "--out {}: a file; give a directory", out.string());
  for (const auto& input : {files.base_path, files.adapter_path, files.path})
    require(!fs::equivalent(out, input, error), ErrorKind::Usage,
            "--out {}: it is what is quantized; input files are never changed: give another directory", out.string());
  const bool model = fs::exists(out / formats::kProvenanceFile) && !formats::PeftAdapter::is_adapter(out);
  require(fs::is_empty(out, error) || model || ours, ErrorKind::Usage,
          "--out {}: holds other files already (no model of slmi's); give an empty or a new directory", out.string());
}

formats::OutputTensor number_tensor(const std::string& name, const formats::Shape& shape, Dtype dtype,
                                    const formats::Checkpoint& checkpoint, const WeightSource& weights) {
  formats::OutputTensor out{name, dtype, shape};
  if (name.ends_with("norm.weight")) {
    auto values = formats::to_floats(checkpoint.tensor(name));
    if (!holds_exactly(dtype, values)) out.dtype = Dtype::F32;
    out.produce = [name, type = out.dtype, values = std::move(values)] {
      return bytes_of(at::tensor(values, at::kFloat), type, name);
    };
  } else {
    out.produce = [name, dtype, &weights] { return bytes_of(weights(name), dtype, name); };
  }
  return out;
}

void write_tokenizer(const model::ModelFiles& files, const fs::path& out, const std::string& tokenizer) {
  const fs::path from = tokenizer.empty() ? files.base_path : fs::path(tokenizer);
  text::copy_tokenizer_files(out, from, files.prompts->chat_template());
  const auto written = text::Tokenizer::load(out);
  require(written->hash() == files.prompts->tokenizer().hash(), ErrorKind::Internal,
          "{}: the tokenizer written there is {:.12}, the model's {} is {:.12}", out.string(), written->hash(),
          files.prompts->tokenizer().source(), files.prompts->tokenizer().hash());
}

WeightSource weights_of(const model::MergedWeights& weights) {
  return [&weights](const std::string& name) {
    const model::MergedTensor tensor = weights.tensor(name);
    return tensor.rows(0, tensor.n());
  };
}

}  // namespace slmi::calib
