// Writing GGUF files; see the header.
#include "slmi/model/gguf_export.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "gguf_rows.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/suggest.h"
#include "slmi/formats/gguf_llama.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/text/gguf_tokenizer.h"

namespace slmi::model {
namespace {

namespace fs = std::filesystem;
using formats::GgufWriter;
using quant::WeightFormat;

constexpr uint32_t kQuantizationVersion = 2;  // of ggml's block layouts

/// general.file_type of llama.cpp (include/llama.h, llama_ftype).
struct FileType {
  WeightFormat format;
  uint32_t id;
};
constexpr std::array<FileType, 8> kFileTypes = {{{WeightFormat::F32, 0},
                                                 {WeightFormat::F16, 1},
                                                 {WeightFormat::BF16, 32},
                                                 {WeightFormat::Q8_0, 7},
                                                 {WeightFormat::Q5_1, 9},
                                                 {WeightFormat::Q5_0, 8},
                                                 {WeightFormat::Q4_1, 3},
                                                 {WeightFormat::Q4_0, 2}}};

uint32_t file_type_id(WeightFormat format) {
  return std::ranges::find(kFileTypes, format, &FileType::format)->id;
}

/// The one place that says in which format a tensor is stored.
WeightFormat format_of_tensor(const formats::ExpectedTensor& tensor, WeightFormat type) {
  if (tensor.shape.size() == 1) return WeightFormat::F32;
  const bool fits = tensor.shape.back() % quant::block_size(type) == 0;
  return fits ? type : WeightFormat::F16;
}

/// Makes one tensor's bytes from the merged weights, in GGUF's row order, a piece at a time.
class Producer {
 public:
  Producer(const MergedWeights& weights, const formats::LlamaConfig& config, const GgufExportOptions& options)
      : weights_(weights), config_(config), options_(options) {}

  void set_total(int64_t num_weights) { total_ = num_weights; }

  void operator()(const std::string& hf_name, WeightFormat format, const GgufWriter::Sink& sink) {
    const MergedTensor tensor = weights_.tensor(hf_name);
    const bool rotary = is_rotary(hf_name);
    const bool same = !tensor.adapted() && tensor.stored().format == format;
    for_each_rows(tensor.n(), tensor.k(), rotary ? config_.head_dim : 1, [&](int64_t begin, int64_t end) {
      const auto row_bytes = static_cast<uint64_t>(quant::row_bytes(format, tensor.k()));
      std::vector<std::byte> made;
      auto piece = tensor.stored().bytes;
      if (same) {
        piece = piece.subspan(static_cast<size_t>(begin) * row_bytes, static_cast<size_t>(end - begin) * row_bytes);
      } else {
        made = quantized(tensor, format, begin, end, hf_name);
        piece = made;
      }
      if (rotary) {
        made = formats::rows_to_interleaved(piece, (end - begin) / config_.head_dim, config_.head_dim, row_bytes);
        piece = made;
      }
      sink(piece);
      done_ += (end - begin) * tensor.k();
      if (options_.progress) options_.progress(done_, total_);
    });
  }

 private:
  std::vector<std::byte> quantized(const MergedTensor& tensor, WeightFormat format, int64_t begin, int64_t end,
                                   const std::string& hf_name) const {
    const at::Tensor values = tensor.rows(begin, end).contiguous();
    // f32 holds every sum that f16 or bf16 can; only f16 may overflow.
    const at::Tensor rounded = format == WeightFormat::F16 ? values.to(at::kHalf) : values;
    require(at::isfinite(rounded).all().item<bool>(), ErrorKind::Numeric,
            "{}: tensor '{}' is not finite in {} (largest magnitude {:g}){}", options_.out.string(), hf_name,
            quant::name(format), values.abs().max().item<double>(),
            format == WeightFormat::F16 ? "; f16 ends at 65504: take another --type"
                                        : "; is the adapter, or the base, damaged?");
    return quant::quantize(format, {values.data_ptr<float>(), static_cast<size_t>(values.numel())}, end - begin,
                           tensor.k());
  }

  const MergedWeights& weights_;
  const formats::LlamaConfig& config_;
  const GgufExportOptions& options_;
  int64_t done_ = 0, total_ = 0;
};

void check_out(const ModelFiles& files, const fs::path& out) {
  std::error_code error;
  require(!fs::is_directory(out, error), ErrorKind::Usage, "--out {}: a directory; give a .gguf file", out.string());
  require(out.extension() == ".gguf", ErrorKind::Usage, "--out {}: programs know GGUF files by their ending .gguf",
          out.string());
  for (const auto& input : {files.base_path, files.path})
    require(!fs::equivalent(out, input, error), ErrorKind::Usage,
            "--out {}: it is what is converted; input files are never changed: give another file", out.string());
}

/// "models/base.gguf" -> "base"; "runs/first/" -> "first".
std::string name_of(const fs::path& path) {
  fs::path clean = fs::absolute(path).lexically_normal();
  if (clean.filename().empty()) clean = clean.parent_path();
  return clean.extension() == ".gguf" ? clean.stem().string() : clean.filename().string();
}

/// general.*: what the base's file says of licence, authors, ... goes along; what describes the file itself is new.
void add_general_keys(GgufWriter& writer, const ModelFiles& files, const GgufExportOptions& options) {
  constexpr std::array<std::string_view, 6> kOfTheFile = {"general.architecture", "general.type",
                                                          "general.name",         "general.file_type",
                                                          "general.alignment",    "general.quantization_version"};
  const auto* base = files.checkpoint->gguf();
  const auto* base_name = base != nullptr ? base->find("general.name") : nullptr;
  const bool keeps_name = options.name.empty() && files.adapter_path.empty() && base_name != nullptr;
  writer.add_string("general.architecture", "llama");
  writer.add_string("general.type", "model");
  writer.add_string("general.name", keeps_name             ? std::string(base_name->as_string())
                                    : options.name.empty() ? name_of(files.path)
                                                           : options.name);
  writer.add_u32("general.file_type", file_type_id(options.type));
  if (quant::is_quantized(options.type)) writer.add_u32("general.quantization_version", kQuantizationVersion);
  if (base == nullptr) return;
  for (const auto& [key, value] : base->metadata())
    if (key.starts_with("general.") && std::ranges::count(kOfTheFile, std::string_view(key)) == 0)
      writer.add_value(key, value);
}

/// The GGUF file that the tokenizer came from; nullptr: another kind.
const formats::GgufFile* vocabulary_file(const ModelFiles& files) {
  const auto* gguf = files.checkpoint->gguf();
  return gguf != nullptr && files.prompts->tokenizer().source() == gguf->source() ? gguf : nullptr;
}

}  // namespace

std::string gguf_types_text() {
  std::vector<std::string_view> names;
  for (const auto& type : kFileTypes) names.push_back(quant::name(type.format));
  return fmt::format("{}", fmt::join(names, ", "));
}

WeightFormat parse_gguf_type(const std::string& text) {
  std::string upper = text;
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
  std::vector<std::string> names;
  for (const auto& type : kFileTypes) {
    names.emplace_back(quant::name(type.format));
    if (names.back() == upper) return type.format;
  }
  const std::string near = nearest_name(upper, names);
  fail(ErrorKind::Usage, "--type {}: no such type{}; there are {}", text,
       near.empty() ? "" : ", did you mean " + near + "?", gguf_types_text());
}

GgufExportResult export_gguf(const ModelFiles& files, const MergedWeights& weights, const GgufExportOptions& options) {
  check_out(files, options.out);
  const auto& config = files.checkpoint->config();
  GgufWriter writer;
  add_general_keys(writer, files, options);
  formats::add_llama_keys(writer, config);
  text::add_gguf_tokenizer(writer, *files.prompts, config.vocab_size, vocabulary_file(files));
  auto provenance = weights.provenance(options.command);
  provenance.quantization = quant::name(options.type);
  writer.add_string(formats::kProvenanceGgufKey, provenance.to_json().dump());

  GgufExportResult result;
  Producer producer(weights, config, options);
  const auto divisors = formats::rope_divisors(config);
  if (!divisors.empty())
    writer.add_tensor(formats::kRopeFreqsTensor, WeightFormat::F32, {static_cast<int64_t>(divisors.size())},
                      std::as_bytes(std::span(divisors)));
  uint64_t weight_bytes = 0;
  for (const auto& tensor : formats::expected_tensors(config)) {
    const WeightFormat format = format_of_tensor(tensor, options.type);
    writer.add_tensor(formats::gguf_name_of_hf(tensor.name), format, tensor.shape,
                      [&producer, name = tensor.name, format](const auto& sink) { producer(name, format, sink); });
    const auto count = static_cast<int64_t>(formats::num_elements(tensor.shape));
    result.num_weights += count;
    weight_bytes +=
        static_cast<uint64_t>(quant::matrix_bytes(format, count / tensor.shape.back(), tensor.shape.back()));
    ++result.tensors;
  }
  producer.set_total(result.num_weights);
  if (options.out.has_parent_path()) slmi::create_directories(options.out.parent_path());
  writer.write(options.out);
  result.file_bytes = fs::file_size(options.out);
  result.bits_per_weight = 8.0 * static_cast<double>(weight_bytes) / static_cast<double>(result.num_weights);
  return result;
}

}  // namespace slmi::model
