// slmi quantize --gptq: a model and calibration rows in, a GPTQ directory out. No arithmetic here.
#include "quantize_directory.h"

#include <csignal>
#include <iostream>
#include <optional>

#include "quantize_rows.h"
#include "slmi/base/error.h"
#include "slmi/base/progress.h"
#include "slmi/calib/gptq_model.h"
#include "slmi/eval/memory.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

/// The rows to calibrate on; without any there is no GPTQ.
eval::RowSource calibration_rows_of(const QuantizeConfig& config, const model::ModelFiles& files) {
  const QuantizeRows rows = calibration_source(config, files);
  require(rows.missing.empty(), ErrorKind::Input,
          "{}: the run {} was trained on it, and it is not here; name rows with --calibration FILE",
          rows.missing.string(), config.model_path);
  require(!rows.source.files.empty(), ErrorKind::Usage,
          "no calibration rows: {} says of none that it was trained on; name some with --calibration FILE",
          config.model_path);
  return rows.source;
}

calib::QuantizeOptions options_of(const QuantizeConfig& config, const QuantizeSource& source) {
  using calib::ColumnOrder;
  const GptqFlags& flags = config.gptq_flags;
  calib::QuantizeOptions out;
  out.gptq.group_size =
      flags.group_size != 0 ? flags.group_size : calib::default_group_size(source.files.checkpoint->config());
  out.gptq.order = flags.act_order     ? ColumnOrder::ActOrder
                   : flags.group_aware ? ColumnOrder::GroupAware
                                       : ColumnOrder::AsStored;
  out.gptq.damp = flags.damp;
  out.gptq.damp_step = flags.damp_step;
  out.gptq.max_damp = flags.max_damp;
  out.gptq.drift_alpha = flags.drift_alpha;
  out.device = source.open.load.device;
  out.compute = source.open.load.policy.compute;
  out.max_shard_bytes = static_cast<uint64_t>(flags.max_shard_gb * 1e9);
  out.tokenizer = config.model.tokenizer;
  return out;
}

std::string described(const calib::GptqOptions& options) {
  const char* order = options.order == calib::ColumnOrder::ActOrder     ? "act-order"
                      : options.order == calib::ColumnOrder::GroupAware ? "group-aware order"
                                                                        : "columns as stored";
  return fmt::format("gptq, 4 bits, groups of {}, {}, drift alpha {:g}", options.group_size, order,
                     options.drift_alpha);
}

/// A live line for the groups of matrices, and the check for a signal at each of them.
class GroupProgress {
 public:
  /// Sets the hooks of `options`; must live as long as they are called.
  GroupProgress(Runtime& rt, const std::string& out, calib::QuantizeOptions& options) {
    options.on_module = [this, &rt](const calib::ModuleReport& report) {
      last_ = fmt::format("layer {} {} error {:.4f}", report.layer, report.module, report.error);
      if (report.damp_raises > 0)
        rt.err << fmt::format("\nlayer {} {}: Hessian not positive definite; damping raised to {:g}\n", report.layer,
                              report.module, report.damp);
    };
    options.progress = [this, &rt, out](int64_t done, int64_t total) {
      if (rt.signal != 0)
        fail(rt.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated,
             "stopped; the layers that are finished are kept in {}: run the same command again", out);
      if (!progress_) progress_.emplace("gptq", "groups", total);
      progress_->update(done, last_);
    };
  }
  void finish() {
    if (progress_) progress_->finish();
  }

 private:
  std::optional<Progress> progress_;
  std::string last_;
};

/// The worst modules, and what the user should know of the damping.
void print_summary(const calib::QuantizeResult& result, const std::string& out, at::Device device, Runtime& rt) {
  double error = 0, nearest = 0;
  const calib::ModuleReport* worst = nullptr;
  int64_t raised = 0;
  for (const auto& m : result.modules) {
    error += m.error;
    nearest += m.nearest_error;
    raised += m.damp_raises > 0 ? 1 : 0;
    if (worst == nullptr || m.error > worst->error) worst = &m;
  }
  const auto count = static_cast<double>(result.modules.size());
  rt.out << fmt::format("quantized {} matrices: {} of weights in {}\n", result.modules.size(),
                        format_bytes(result.weight_bytes), out)
         << fmt::format(
                "relative error of their outputs: mean {:.4f} (round-to-nearest {:.4f}), largest {:.4f} (layer "
                "{} {}); all in {}\n",
                error / count, nearest / count, worst->error, worst->layer, worst->module,
                (fs::path(out) / "quantization.csv").string());
  const eval::MemoryUse memory = eval::memory_use(device);
  if (memory.rss_peak)
    rt.out << fmt::format("peak memory: {} with the pages of mapped files", format_bytes(*memory.rss_peak));
  if (memory.vram_allocator) rt.out << fmt::format(", {} on the GPU", format_bytes(*memory.vram_allocator));
  rt.out << "\n";
  if (raised > 0)
    rt.out << fmt::format("damping was raised for {} matrices, whose Hessian was not positive definite before\n",
                          raised);
}

}  // namespace

void GptqFlags::check(std::vector<std::string>& problems) const {
  if (group_size != 0 && group_size != -1 && group_size != 32 && group_size != 64 && group_size != 128)
    problems.push_back(fmt::format("group_size = {}; expected 32, 64, 128 or -1", group_size));
  if (damp > max_damp) problems.push_back(fmt::format("damp = {:g} is above max_damp = {:g}", damp, max_damp));
}

void run_quantize_gptq(const QuantizeConfig& config, Runtime& rt) {
  choose_threads(config.model.threads);
  const QuantizeSource source = open_source(config, rt);
  const GptqFlags& flags = config.gptq_flags;
  calib::QuantizeOptions options = options_of(config, source);
  const model::MergedWeights weights(source.files, config.onto);
  const calib::CalibrationRows rows = read_calibration(
      calibration_rows_of(config, source.files), source.files,
      {config.calibration_rows.value_or(kGptqRows), flags.calibration_tokens, flags.micro_tokens}, options.device);
  rt.err << fmt::format("calibrating on {} rows, {} tokens{}; groups of {}; {} on {}\n", rows.num_rows, rows.num_tokens,
                        rows.num_cut > 0 ? fmt::format(" ({} rows cut)", rows.num_cut) : "", options.gptq.group_size,
                        ops::name(options.compute), options.device.str());
  GroupProgress progress(rt, config.out, options);
  formats::Provenance provenance = weights.provenance(rt.command_line);
  provenance.quantization = described(options.gptq);
  provenance.calibration_hash = rows.hash;
  const auto result =
      calib::quantize_model(source.files, calib::weights_of(weights), rows, provenance, config.out, options);
  progress.finish();
  print_summary(result, config.out, options.device, rt);
  finish_directory(config, source, weights, rt);
}

}  // namespace slmi::cli
