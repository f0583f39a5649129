// slmi quantize --gguf: writes the file, reads it again, and lets it answer beside the model that it was made of.
#include <algorithm>
#include <array>
#include <filesystem>
#include <iostream>
#include <map>

#include "quantize_drift.h"
#include "slmi/base/atomic_file.h"
#include "slmi/calib/importance.h"
#include "slmi/data/encoded_dataset.h"
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
    const std::string name = config_.name.empty() ? out_.stem().string() : config_.name;
    formats::write_gguf_adapter(out_, adapter, source_.files.checkpoint->config(), name, provenance);
    rt_.out << fmt::format("wrote {}: {} pairs of rank {}, {}\n\nnext:\n  llama-cli -m BASE.gguf --lora {} ...\n",
                           out_.string(), adapter.pairs().size(), adapter.config().r, format_bytes(fs::file_size(out_)),
                           shell_quoted(out_.string()));
  }

  void write_model() {
    measure_importances();
    {
      const model::MergedWeights weights(source_.files, config_.onto);
      quantized_base_ = weights.quantized_base();
      merge_base_ = weights.merge_base();
      model::GgufExportOptions options{out_, type_, overrides_, config_.name, rt_.command_line, {}};
      if (importances_) {
        options.importance = [this](const std::string& name) { return importances_->of(name); };
        options.calibration_hash = importances_->calibration_hash();
      }
      options.progress = [&](int64_t done, int64_t total) { stages_.update("quantize", "weights", done, total); };
      result_ = model::export_gguf(source_.files, weights, options);
      errors_ = model::verify_gguf(out_, source_.files, weights, [&](int64_t done, int64_t total) {
        stages_.update("read again", "weights", done, total);
      });
      stages_.finish();
    }
    write_file_atomically(beside(out_, ".Modelfile"),
                          text::ollama_modelfile(*source_.files.prompts, out_.filename().string()));
    print_result();
    drift_ = measure_drift(config_, source_, quantized_base_, stages_, rt_);
    write_report();
    print_next();
    check_drop(drift_, config_);
  }

 private:
  /// Files named on the command line, else a run's own if all of them are still there.
  eval::RowSource rows_of(const std::vector<std::string>& named,
                          model::TrainingRows (*of_run)(const fs::path& run)) const {
    eval::RowSource rows{{named.begin(), named.end()}, config_.text_field, config_.answer_field, 0};
    if (!rows.files.empty() || source_.files.kind != model::PathKind::Run) return rows;
    const auto own = of_run(source_.files.path);
    std::error_code error;
    const bool there =
        std::ranges::all_of(own.files, [&](const auto& file) { return fs::is_regular_file(file, error); });
    if (there) rows = {own.files, own.text_field, own.answer_field, 0};
    return rows;
  }

  /// Which inputs are large, where the type's quantizers can use it and there are rows to measure it on.
  void measure_importances() {
    using quant::FileType;
    constexpr auto kWithout = std::array{FileType::F32, FileType::F16, FileType::BF16, FileType::Q8_0};
    const eval::RowSource source = rows_of(config_.calibration, model::training_rows);
    if (std::ranges::count(kWithout, type_) > 0 || config_.calibration_rows == 0 || source.files.empty()) return;
    const auto opened = model::open_model(config_.model_path, source_.open);
    const auto set = eval::read_source(source, source_.files.prompts->system_text());
    const auto rows = data::EncodedDataset::encode(
        set, *source_.files.prompts,
        {source_.files.checkpoint->config().max_position_embeddings, data::OverLong::Skip});
    calib::ImportanceOptions options;
    options.max_rows = config_.calibration_rows;
    options.progress = [&](int64_t done, int64_t total) { stages_.update("calibrate", "rows", done, total); };
    importances_ = calib::Importances::measure(*opened.llama, rows, options);
    stages_.finish();
    rt_.out << fmt::format("calibrated on {} rows, {} tokens\n", std::min(rows.size(), config_.calibration_rows),
                           importances_->num_tokens());
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
    for (const auto& e : errors_)
      if (e.relative_rmse > kNotable)
        rt_.out << fmt::format("  note: {} lost much: relative error {:.3g}\n", e.name, e.relative_rmse);
  }

  void write_report() const {
    Json tensors = Json::array();
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
                         {"calibration_hash", importances_ ? Json(importances_->calibration_hash()) : Json(nullptr)},
                         {"bits_per_weight", result_.bits_per_weight},
                         {"tensors", tensors},
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
