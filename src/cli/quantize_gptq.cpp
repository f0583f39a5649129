// slmi quantize --gptq: a model and calibration rows in, a GPTQ directory out. No arithmetic here.
#include "quantize_directory.h"

#include <iostream>

#include "quantize_groups.h"
#include "quantize_rows.h"
#include "slmi/base/error.h"
#include "slmi/calib/gptq_model.h"

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
  static_cast<calib::SolverOptions&>(out.gptq) = solver_options(flags);
  out.device = source.open.load.device;
  out.compute = source.open.load.policy.compute;
  out.max_shard_bytes = static_cast<uint64_t>(flags.max_shard_gb * 1e9);
  out.tokenizer = config.model.tokenizer;
  return out;
}

std::string described(const calib::GptqOptions& options, double answer_weight) {
  const char* order = options.order == calib::ColumnOrder::ActOrder     ? "act-order"
                      : options.order == calib::ColumnOrder::GroupAware ? "group-aware order"
                                                                        : "columns as stored";
  return fmt::format("gptq, 4 bits, groups of {}, {}, drift alpha {:g}, answers count {:g}", options.group_size, order,
                     options.drift_alpha, answer_weight);
}

}  // namespace

void GptqFlags::check(std::vector<std::string>& problems) const {
  if (group_size != 0 && group_size != -1 && group_size != 32 && group_size != 64 && group_size != 128)
    problems.push_back(fmt::format("group_size = {}; expected 32, 64, 128 or -1", group_size));
  if (damp > max_damp) problems.push_back(fmt::format("damp = {:g} is above max_damp = {:g}", damp, max_damp));
}

calib::SolverOptions solver_options(const GptqFlags& flags) {
  return {flags.damp, flags.damp_step, flags.max_damp, flags.drift_alpha};
}

void run_quantize_gptq(const QuantizeConfig& config, Runtime& rt) {
  choose_threads(config.model.threads);
  const QuantizeSource source = open_source(config, rt);
  calib::QuantizeOptions options = options_of(config, source);
  const model::MergedWeights weights(source.files, config.onto);
  const calib::CalibrationRows rows =
      read_calibration(calibration_rows_of(config, source.files), source.files,
                       calibration_options(config, source.files, kGptqRows), options.device);
  rt.err << fmt::format("calibrating on {} rows, {} tokens{}; groups of {}; {} on {}\n", rows.num_rows, rows.num_tokens,
                        rows.num_cut > 0 ? fmt::format(" ({} rows cut)", rows.num_cut) : "", options.gptq.group_size,
                        ops::name(options.compute), options.device.str());
  PeakMemory memory;
  GroupProgress progress(
      rt, fmt::format("the layers that are finished are kept in {}: run the same command again", config.out), memory,
      options);
  formats::Provenance provenance = weights.provenance(rt.command_line);
  provenance.quantization = described(options.gptq, rows.answer_weight);
  provenance.calibration_hash = rows.hash;
  const auto result =
      calib::quantize_model(source.files, calib::weights_of(weights), rows, provenance, config.out, options);
  progress.finish();
  rt.out << fmt::format("quantized {} matrices: {} of weights in {}\n", result.modules.size(),
                        format_bytes(result.weight_bytes), config.out);
  print_errors(result.modules, (fs::path(config.out) / "quantization.csv").string(), rt);
  memory.print(options.device, rt);
  finish_directory(config, source, weights, rt);
}

}  // namespace slmi::cli
