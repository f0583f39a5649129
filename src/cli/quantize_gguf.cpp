// slmi quantize --gguf: writes the file, reads it again, and lets it answer beside the model that it was made of.
#include <algorithm>
#include <array>
#include <filesystem>
#include <iostream>
#include <map>

#include "quantize_drift.h"
#include "quantize_groups.h"
#include "quantize_rows.h"
#include "slmi/base/atomic_file.h"
#include "slmi/calib/block_model.h"
#include "slmi/calib/importance.h"
#include "slmi/formats/gguf_adapter.h"
#include "slmi/text/ollama_modelfile.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kNotable = 0.2;  // relative error of a tensor that is worth a line

Json to_json(const model::TensorError& e) {
  return {{"name", e.name},
          {"format", e.format},
          {"shape", e.shape},
          {"bytes", e.bytes},
          {"relative_rmse", e.relative_rmse},
          {"max_error", e.max_error}};
}

/// "a.gguf" -> "a" + ending.
fs::path beside(const fs::path& file, const char* ending) {
  return file.parent_path() / (file.stem().string() + ending);
}

/// One run of the command.
class GgufJob {
 public:
  GgufJob(const QuantizeConfig& config, Runtime& rt)
      : config_(config), rt_(rt), out_(config.out), stages_(rt, "run the same command again") {
    type_ = quant::parse_file_type(config.type);
    for (const auto& text : config.tensor_type) overrides_.push_back(quant::parse_type_override(text));
    source_ = open_source(config, rt);
  }

  void write_adapter() {
    require(!source_.files.adapter_path.empty(), ErrorKind::Usage,
            "--adapter-only: {} holds no adapter; give a run or an adapter directory", config_.model_path);
    const model::MergedWeights weights(source_.files, model::MergeOnto::Auto);
    const auto adapter = formats::PeftAdapter::open(source_.files.adapter_path);
    auto provenance = weights.provenance(rt_.command_line);
    provenance.base = source_.files.base;  // the one that it goes onto
    if (source_.files.provenance) provenance.trained_on = source_.files.provenance->trained_on;
    if (source_.files.trained_on_nf4())
      rt_.err << "note: the adapter was trained on its base in NF4; on a GGUF file of the base as it is stored it is a "
                 "little off: a file of both together (without --adapter-only) has the values it was trained on\n";
    const std::string name = config_.name.empty() ? out_.stem().string() : config_.name;
    formats::write_gguf_adapter(out_, adapter, source_.files.checkpoint->config(), name, provenance);
    rt_.out << fmt::format("wrote {}: {} pairs of rank {}, {}\n\nnext:\n  llama-cli -m BASE.gguf --lora {} ...\n",
                           out_.string(), adapter.pairs().size(), adapter.config().r, format_bytes(fs::file_size(out_)),
                           shell_quoted(out_.string()));
  }

  void write_model() {
    {
      const model::MergedWeights weights(source_.files, config_.onto);
      quantized_base_ = weights.quantized_base();
      merge_base_ = weights.merge_base();
      model::GgufExportOptions options{out_, type_, overrides_, config_.name, rt_.command_line, {}};
      calibrate(weights, options);
      options.progress = [&](int64_t done, int64_t total) {
        memory_.sample();
        stages_.update("quantize", "weights", done, total);
      };
      result_ = model::export_gguf(source_.files, weights, options);
      errors_ = model::verify_gguf(out_, source_.files, weights, [&](int64_t done, int64_t total) {
        memory_.sample();
        stages_.update("read again", "weights", done, total);
      });
      stages_.finish();
    }
    write_file_atomically(beside(out_, ".Modelfile"),
                          text::ollama_modelfile(*source_.files.prompts, out_.filename().string()));
    print_result();
    if (!blocks_.modules.empty()) print_errors(blocks_.modules, beside(out_, ".report.json").string(), rt_);
    memory_.print(source_.open.load.device, rt_);
    drift_ = measure_drift(config_, source_, quantized_base_, stages_, rt_);
    write_report();
    print_next();
    check_drop(drift_, config_);
  }

 private:
  /// Whether a tensor may get a form whose quantizer weighs errors.
  bool uses_importances() const {
    using quant::WeightFormat;
    constexpr std::array kFineFormats = {WeightFormat::F32, WeightFormat::F16, WeightFormat::BF16, WeightFormat::Q8_0};
    return quant::uses_importances(type_) || std::ranges::any_of(overrides_, [&](const auto& wish) {
             return std::ranges::count(kFineFormats, wish.format) == 0;
           });
  }

  /// Quantizes by GPTQ, or measures which inputs are large, where the types can use it and there are rows for it.
  void calibrate(const model::MergedWeights& weights, model::GgufExportOptions& options) {
    require(uses_importances() || config_.calibration.empty(), ErrorKind::Usage,
            "--calibration: --type {} stores every weight alone, whatever its input; leave it out, or take a type "
            "below 8 bits",
            quant::name(type_));
    const bool gptq = config_.rounding == Rounding::Gptq;
    const auto options_of_rows = calibration_options(config_, source_.files, gptq ? kGptqRows : kImportanceRows);
    if (!uses_importances() || options_of_rows.max_rows == 0) return;
    const QuantizeRows from = calibration_source(config_, source_.files);
    if (from.source.files.empty()) {
      rt_.out << fmt::format(
          "not calibrated{}: weights are rounded to their nearest value, errors of all inputs count the same; name "
          "rows with --calibration FILE\n",
          from.missing.empty() ? "" : fmt::format(" ({} is not here)", from.missing.string()));
      return;
    }
    const auto rows = read_calibration(from.source, source_.files, options_of_rows, source_.open.load.device);
    options.calibration_hash = calibration_hash_ = rows.hash;
    rt_.out << fmt::format("calibrating on {} rows, {} tokens\n", rows.num_rows, rows.num_tokens) << std::flush;
    if (gptq)
      quantize_blocks(weights, rows, options);
    else
      measure_importances(rows, options);
  }

  void quantize_blocks(const model::MergedWeights& weights, const calib::CalibrationRows& rows,
                       model::GgufExportOptions& options) {
    options.blocks = [this](const std::string& name) {
      const auto found = blocks_.blocks.find(name);
      return found == blocks_.blocks.end() ? std::span<const std::byte>() : std::span(found->second);
    };
    options.rounding =
        fmt::format("gptq, drift alpha {:g}, answers count {:g}", config_.gptq_flags.drift_alpha, rows.answer_weight);
    std::map<std::string, std::optional<quant::WeightFormat>> formats;
    for (const auto& tensor : model::plan_gguf(source_.files, weights, options))
      formats[tensor.hf_name] = tensor.copied ? std::nullopt : std::optional(tensor.format);
    calib::BlockModelOptions how;
    how.solver = solver_options(config_.gptq_flags);
    how.device = source_.open.load.device;
    how.compute = source_.open.load.policy.compute;
    GroupProgress progress(rt_, "run the same command again", memory_, how);
    blocks_ = calib::quantize_blocks(
        *source_.files.checkpoint, calib::weights_of(weights), rows,
        [&](const std::string& name) { return formats.at(name); }, how);
    progress.finish();
  }

  void measure_importances(const calib::CalibrationRows& rows, model::GgufExportOptions& options) {
    const auto opened = model::open_model(config_.model_path, source_.open);
    importances_ = calib::Importances::measure(
        *opened.llama, rows, [&](int64_t done, int64_t total) { stages_.update("calibrate", "tokens", done, total); });
    stages_.finish();
    options.importance = [this](const std::string& name) { return importances_->of(name); };
  }

  void print_result() const {
    rt_.out << fmt::format("wrote {}: {}, {} tensors, {:.2f} bits a weight\n", out_.string(),
                           format_bytes(result_.file_bytes), result_.tensors, result_.bits_per_weight);
    rt_.out << "read again: tokenizer, template, stop ids and every tensor are there\n";
    std::map<std::string, std::pair<int64_t, const model::TensorError*>> worst;  // by format: tensors, largest error
    for (const auto& e : errors_) {
      auto& [count, largest] = worst[e.format];
      ++count;
      if (largest == nullptr || e.relative_rmse > largest->relative_rmse) largest = &e;
    }
    for (const auto& [format, of] : worst)
      rt_.out << fmt::format("  {:<5} {:>4} tensors, relative error at most {:.3g} ({})\n", format, of.first,
                             of.second->relative_rmse, of.second->name);
    // GPTQ moves weights to keep outputs: it has errors of its own to report.
    for (const auto& e : errors_)
      if (e.relative_rmse > kNotable && blocks_.blocks.empty())
        rt_.out << fmt::format("  note: {} lost much: relative error {:.3g}\n", e.name, e.relative_rmse);
  }

  void write_report() const {
    Json tensors = Json::array(), modules = Json::array();
    for (const auto& m : blocks_.modules) modules.push_back(calib::to_json(m));
    for (const auto& e : errors_) tensors.push_back(to_json(e));
    const Json report = {{"schema", 1},
                         {"command", rt_.command_line},
                         {"model", config_.model_path},
                         {"base", source_.files.base_path.string()},
                         {"base_formats", source_.files.checkpoint->formats_text()},
                         {"merge_base", merge_base_},
                         {"file", out_.string()},
                         {"file_bytes", result_.file_bytes},
                         {"type", std::string(quant::name(type_))},
                         {"rounding", blocks_.modules.empty() ? "nearest" : "gptq"},
                         {"calibration_hash", calibration_hash_.empty() ? Json(nullptr) : Json(calibration_hash_)},
                         {"bits_per_weight", result_.bits_per_weight},
                         {"tensors", tensors},
                         {"modules", modules},
                         {"drift", drift_ ? eval::to_json(*drift_) : Json(nullptr)},
                         {"drift_is_lower_bound", quantized_base_}};
    write_file_atomically(beside(out_, ".report.json"), report.dump(2) + "\n");
  }

  void print_next() const {
    const std::string file = shell_quoted(out_.string());
    rt_.out << fmt::format(
                   "report: {}\n\nnext:\n  slmi predict --model {} \"your request\"\n  ollama create NAME -f {}\n",
                   beside(out_, ".report.json").string(), file, shell_quoted(beside(out_, ".Modelfile").string()))
            << std::flush;
  }

  const QuantizeConfig& config_;
  Runtime& rt_;
  fs::path out_;
  StageProgress stages_;
  quant::FileType type_ = quant::FileType::Q4_K_M;
  std::vector<quant::TypeOverride> overrides_;
  QuantizeSource source_;
  bool quantized_base_ = false;
  std::string merge_base_;
  model::GgufExportResult result_;
  std::vector<model::TensorError> errors_;
  std::optional<calib::Importances> importances_;
  calib::BlockModel blocks_;
  PeakMemory memory_;
  std::string calibration_hash_;
  std::optional<eval::Drift> drift_;
};

}  // namespace

void run_quantize_gguf(const QuantizeConfig& config, Runtime& rt) {
  choose_threads(config.model.threads);
  GgufJob job(config, rt);
  if (config.adapter_only)
    job.write_adapter();
  else
    job.write_model();
}

}  // namespace slmi::cli
