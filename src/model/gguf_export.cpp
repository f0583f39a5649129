// Writing GGUF files; see the header.
#include "slmi/model/gguf_export.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <array>

#include "gguf_rows.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/formats/gguf_llama.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/text/gguf_tokenizer.h"

namespace slmi::model {
namespace {

namespace fs = std::filesystem;
using formats::GgufWriter;
using quant::WeightFormat;

constexpr uint32_t kQuantizationVersion = 2;  // of ggml's block layouts

/// What the rules of a mix look at beside a tensor.
quant::MixModel mix_model(const formats::LlamaConfig& config, const GgufExportOptions& options) {
  return {.num_layers = config.num_layers,
          .heads_per_kv_head = config.num_heads / config.num_kv_heads,
          .tied_head = config.tie_word_embeddings,
          .has_importance = options.importance || options.blocks};
}

/// Makes one tensor's bytes from the merged weights, in GGUF's row order, a piece at a time.
class Producer {
 public:
  Producer(const MergedWeights& weights, const formats::LlamaConfig& config, const GgufExportOptions& options)
      : weights_(weights), config_(config), options_(options) {}

  void set_total(int64_t num_weights) { total_ = num_weights; }

  void operator()(const PlannedTensor& plan, const GgufWriter::Sink& sink) {
    const auto& [hf_name, gguf_name, shape, format, copied] = plan;
    const MergedTensor tensor = weights_.tensor(hf_name);
    const bool rotary = is_rotary(hf_name);
    const auto whole = copied ? tensor.stored().bytes : made_before(plan);
    for_each_rows(tensor.n(), tensor.k(), rotary ? config_.head_dim : 1, [&](int64_t begin, int64_t end) {
      const auto row_bytes = static_cast<uint64_t>(quant::row_bytes(format, tensor.k()));
      std::vector<std::byte> made;
      std::span<const std::byte> piece;
      if (!whole.empty()) {
        piece = whole.subspan(static_cast<size_t>(begin) * row_bytes, static_cast<size_t>(end - begin) * row_bytes);
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
  /// The whole matrix as the caller quantized it; empty: it is made here.
  std::span<const std::byte> made_before(const PlannedTensor& plan) const {
    if (!options_.blocks) return {};
    const auto out = options_.blocks(plan.hf_name);
    const auto bytes = quant::matrix_bytes(plan.format, plan.shape.front(), plan.shape.back());
    require(out.empty() || out.size() == static_cast<size_t>(bytes), ErrorKind::Internal,
            "tensor '{}': {} bytes of blocks given, {} needed in {}", plan.hf_name, out.size(), bytes,
            quant::name(plan.format));
    return out;
  }
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
    quant::QuantizeOptions quantize;
    if (options_.importance) quantize.importance = options_.importance(hf_name);
    return quant::quantize(format, {values.data_ptr<float>(), static_cast<size_t>(values.numel())}, end - begin,
                           tensor.k(), quantize);
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

/// Whether any matrix may be stored in blocks.
bool writes_blocks(const GgufExportOptions& options) {
  const auto dense = {quant::FileType::F32, quant::FileType::F16, quant::FileType::BF16};
  return std::ranges::find(dense, options.type) == dense.end() ||
         std::ranges::any_of(options.overrides, [](const auto& o) { return quant::is_quantized(o.format); });
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
  writer.add_u32("general.file_type", quant::file_type_id(options.type));
  if (writes_blocks(options)) writer.add_u32("general.quantization_version", kQuantizationVersion);
  if (base == nullptr) return;
  for (const auto& [key, value] : base->metadata())
    if (key.starts_with("general.") && std::ranges::count(kOfTheFile, std::string_view(key)) == 0)
      writer.add_value(key, value);
}

/// "Q4_K_M", "Q4_K_M, attn_v=Q8_0".
std::string quantization_text(const GgufExportOptions& options) {
  std::string out(quant::name(options.type));
  for (const auto& o : options.overrides) out += ", " + o.text;
  if (!options.rounding.empty()) out += "; " + options.rounding;
  return out;
}

/// The GGUF file that the tokenizer came from; nullptr: another kind.
const formats::GgufFile* vocabulary_file(const ModelFiles& files) {
  const auto* gguf = files.checkpoint->gguf();
  return gguf != nullptr && files.prompts->tokenizer().source() == gguf->source() ? gguf : nullptr;
}

}  // namespace

std::vector<PlannedTensor> plan_gguf(const ModelFiles& files, const MergedWeights& weights,
                                     const GgufExportOptions& options) {
  const auto& config = files.checkpoint->config();
  const auto mix = mix_model(config, options);
  std::vector<PlannedTensor> out;
  for (const auto& expected : formats::expected_tensors(config)) {
    PlannedTensor tensor{expected.name, formats::gguf_name_of_hf(expected.name), expected.shape};
    tensor.format = quant::tensor_format(options.type, tensor.gguf_name, tensor.shape, mix, options.overrides);
    tensor.copied =
        !weights.changes(tensor.hf_name) && files.checkpoint->tensor(tensor.hf_name).format == tensor.format;
    out.push_back(std::move(tensor));
  }
  return out;
}

GgufExportResult export_gguf(const ModelFiles& files, const MergedWeights& weights, const GgufExportOptions& options) {
  check_out(files, options.out);
  const auto& config = files.checkpoint->config();
  GgufWriter writer;
  add_general_keys(writer, files, options);
  formats::add_llama_keys(writer, config);
  text::add_gguf_tokenizer(writer, *files.prompts, config.vocab_size, vocabulary_file(files));
  auto provenance = weights.provenance(options.command);
  provenance.quantization = quantization_text(options);
  provenance.calibration_hash = options.calibration_hash;
  writer.add_string(formats::kProvenanceGgufKey, provenance.to_json().dump());

  GgufExportResult result;
  Producer producer(weights, config, options);
  const auto divisors = formats::rope_divisors(config);
  if (!divisors.empty())
    writer.add_tensor(formats::kRopeFreqsTensor, WeightFormat::F32, {static_cast<int64_t>(divisors.size())},
                      std::as_bytes(std::span(divisors)));
  uint64_t weight_bytes = 0;
  const auto plan = plan_gguf(files, weights, options);
  for (const auto& tensor : plan) {
    writer.add_tensor(tensor.gguf_name, tensor.format, tensor.shape,
                      [&producer, &tensor](const auto& sink) { producer(tensor, sink); });
    const auto count = static_cast<int64_t>(formats::num_elements(tensor.shape));
    result.num_weights += count;
    weight_bytes +=
        static_cast<uint64_t>(quant::matrix_bytes(tensor.format, count / tensor.shape.back(), tensor.shape.back()));
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
