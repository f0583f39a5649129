// Model directories that this program writes; see the header.
#include "slmi/model/model_directory.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <cstring>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/text/tokenizer_files.h"

namespace slmi::model {
namespace {

namespace fs = std::filesystem;
using formats::Dtype;

/// The place of a model that is being written, in `out`/unfinished.
constexpr const char* kPlace = "model";

fs::path place_in(const fs::path& out) {
  return out / kUnfinished / kPlace;
}

/// What this program writes about a model beside it, and what would be wrong beside the next one.
constexpr const char* kReports[] = {"quantization.csv", "quantization.json", "report.json"};

void move_up(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  require(!error, ErrorKind::Output, "{}: cannot put in place: {}", to.string(), error.message());
}

at::ScalarType scalar_type_of(Dtype dtype) {
  return dtype == Dtype::BF16 ? at::kBFloat16 : dtype == Dtype::F16 ? at::kHalf : at::kFloat;
}

/// True if a conversion to `dtype` and back gives every value again.
bool holds_exactly(Dtype dtype, const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [dtype](float v) {
    if (dtype == Dtype::BF16) return bf16_to_f32(f32_to_bf16(v)) == v;
    if (dtype == Dtype::F16) return f16_to_f32(f32_to_f16(v)) == v;
    return true;
  });
}

}  // namespace

void check_out(const ModelFiles& files, const fs::path& out) {
  std::error_code error;
  if (!fs::exists(out, error)) return;
  require(fs::is_directory(out, error), ErrorKind::Usage, "--out {}: a file; give a directory", out.string());
  for (const auto& input : {files.base_path, files.adapter_path, files.path})
    require(!fs::equivalent(out, input, error), ErrorKind::Usage,
            "--out {}: it is the model that is read; input files are never changed: give another directory",
            out.string());
  const bool ours = fs::exists(out / formats::kProvenanceFile) && !formats::PeftAdapter::is_adapter(out);
  const bool begun = fs::exists(place_in(out), error) || fs::exists(out / kUnfinished / kUnfinishedJob, error);
  require(fs::is_empty(out, error) || ours || begun, ErrorKind::Usage,
          "--out {}: holds other files already (no model of slmi's); give an empty or a new directory", out.string());
}

void write_tokenizer(const ModelFiles& files, const fs::path& out, const std::string& tokenizer) {
  const fs::path from = tokenizer.empty() ? files.base_path : fs::path(tokenizer);
  text::copy_tokenizer_files(out, from, files.prompts->chat_template());
  const auto written = text::Tokenizer::load(out);
  require(written->hash() == files.prompts->tokenizer().hash(), ErrorKind::Internal,
          "{}: the tokenizer written there is {:.12}, the model's {} is {:.12}", out.string(), written->hash(),
          files.prompts->tokenizer().source(), files.prompts->tokenizer().hash());
}

UnfinishedModel::UnfinishedModel(const fs::path& out) : out_(out), place_(place_in(out)) {
  std::error_code ignored;
  is_new_ = !fs::exists(out_, ignored);
  remove_tree(place_);
  slmi::create_directories(place_);
}

UnfinishedModel::~UnfinishedModel() {
  std::error_code ignored;
  remove_tree(place_, ignored);
  fs::remove(place_.parent_path(), ignored);  // fails where a job keeps its own files there
  if (is_new_) fs::remove(out_, ignored);     // fails where anything is left
}

void UnfinishedModel::finish() {
  formats::remove_model_files(out_);  // config.json before all others: from here on nothing loads `out`
  text::remove_tokenizer_files(out_);
  for (const char* name : kReports) slmi::remove_file(out_ / name);
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(place_)) names.push_back(entry.path().filename());
  const auto last =
      std::stable_partition(names.begin(), names.end(), [](const fs::path& n) { return n != "config.json"; });
  require(last != names.end(), ErrorKind::Internal, "{}: holds no config.json", place_.string());
  for (const auto& name : names) move_up(place_ / name, out_ / name);
  sync_directory(out_);
}

Dtype written_dtype(const formats::Checkpoint& checkpoint, const std::string& name, Dtype dtype) {
  if (!name.ends_with("norm.weight")) return dtype;
  return holds_exactly(dtype, formats::to_floats(checkpoint.tensor(name))) ? dtype : Dtype::F32;
}

std::vector<std::byte> rounded_bytes(const at::Tensor& values, Dtype dtype, const std::string& what,
                                     const std::string& advice) {
  const at::Tensor rounded = values.to(scalar_type_of(dtype)).contiguous();
  require(at::isfinite(rounded).all().item<bool>(), ErrorKind::Numeric,
          "{} is not finite as {} (largest magnitude {:g}){}", what, formats::dtype_name(dtype),
          values.abs().max().item<double>(),
          dtype == Dtype::F16 ? "; f16 ends at 65504" + advice : "; is the model, or its adapter, damaged?");
  std::vector<std::byte> out(static_cast<size_t>(rounded.nbytes()));
  std::memcpy(out.data(), rounded.const_data_ptr(), out.size());
  return out;
}

}  // namespace slmi::model
