// slmi quantize --gptq: a model and calibration rows in, a GPTQ directory out. No arithmetic here.
#include "quantize_gptq.h"

#include <algorithm>
#include <csignal>
#include <iostream>
#include <optional>

#include "slmi/base/error.h"
#include "slmi/base/progress.h"
#include "slmi/calib/gptq_model.h"
#include "slmi/data/row_reader.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

/// The rows named, else those that the run was trained on.
data::RowSet calibration_set(const QuantizeTarget& target, const GptqFlags& flags, const model::ModelFiles& files) {
  model::TrainingRows rows{
      {flags.calibration.begin(), flags.calibration.end()}, target.text_field, target.answer_field};
  if (rows.files.empty() && files.kind == model::PathKind::Run) {
    rows = model::training_rows(files.path);
    const auto missing =
        std::find_if(rows.files.begin(), rows.files.end(), [](const auto& f) { return !fs::exists(f); });
    require(missing == rows.files.end(), ErrorKind::Input,
            "{}: the run {} was trained on it, and it is not here; name rows with --calibration FILE",
            missing == rows.files.end() ? "" : missing->string(), target.model_path);
  }
  require(!rows.files.empty(), ErrorKind::Usage,
          "no calibration rows: {} says of none that it was trained on; name some with --calibration FILE",
          target.model_path);
  data::ReadOptions options;
  options.text_field = rows.text_field;
  options.answer_field = rows.answer_field;
  options.system_text = files.prompts->system_text();
  options.targets = data::Targets::Optional;
  return data::read_rows(rows.files, options);
}

/// Rows evenly spread over the set, encoded; only those that will be used.
data::EncodedDataset encode_some(data::RowSet set, int64_t wanted, const text::PromptBuilder& prompts) {
  const auto size = static_cast<int64_t>(set.rows.size());
  if (wanted < size) {
    std::vector<data::Row> some;
    for (int64_t i = 0; i < wanted; ++i) some.push_back(std::move(set.rows[static_cast<size_t>(i * size / wanted)]));
    set.rows = std::move(some);
  }
  data::EncodeOptions encode;
  encode.max_seq_len = int64_t{1} << 20;  // cut later
  return data::EncodedDataset::encode(set, prompts, encode);
}

calib::QuantizeOptions options_of(const QuantizeTarget& target, const GptqFlags& flags,
                                  const model::ModelFiles& files) {
  using calib::ColumnOrder;
  calib::QuantizeOptions out;
  out.gptq.group_size =
      flags.group_size != 0 ? flags.group_size : calib::default_group_size(files.checkpoint->config());
  out.gptq.order = flags.act_order     ? ColumnOrder::ActOrder
                   : flags.group_aware ? ColumnOrder::GroupAware
                                       : ColumnOrder::AsStored;
  out.gptq.damp = flags.damp;
  out.gptq.damp_step = flags.damp_step;
  out.gptq.max_damp = flags.max_damp;
  out.device = choose_device(target.model.device);
  out.compute = choose_compute(target.model.compute, out.device);
  out.max_shard_bytes = static_cast<uint64_t>(flags.max_shard_gb * 1e9);
  out.tokenizer = target.model.tokenizer;
  return out;
}

std::string described(const calib::GptqOptions& options) {
  const char* order = options.order == calib::ColumnOrder::ActOrder     ? "act-order"
                      : options.order == calib::ColumnOrder::GroupAware ? "group-aware order"
                                                                        : "columns as stored";
  return fmt::format("gptq, 4 bits, groups of {}, {}", options.group_size, order);
}

/// The worst modules, and what the user should know of the damping.
void print_summary(const calib::QuantizeResult& result, const std::string& out, Runtime& rt) {
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

void run_quantize_gptq(const QuantizeTarget& target, const GptqFlags& flags, Runtime& rt) {
  choose_threads(target.model.threads);
  const model::ModelFiles files = open_to_quantize(target, rt);
  calib::QuantizeOptions options = options_of(target, flags, files);
  const auto encoded = encode_some(calibration_set(target, flags, files), flags.calibration_rows, *files.prompts);
  const calib::CalibrationRows rows = calib::take_calibration_rows(
      encoded, {flags.calibration_rows, flags.calibration_tokens, flags.micro_tokens}, options.device);
  rt.err << fmt::format("calibrating on {} rows, {} tokens{}; groups of {}; {} on {}\n", rows.num_rows, rows.num_tokens,
                        rows.num_cut > 0 ? fmt::format(" ({} rows cut)", rows.num_cut) : "", options.gptq.group_size,
                        ops::name(options.compute), options.device.str());
  std::optional<Progress> progress;
  calib::ModuleReport last;
  options.on_module = [&](const calib::ModuleReport& report) {
    last = report;
    if (report.damp_raises > 0)
      rt.err << fmt::format("\nlayer {} {}: Hessian not positive definite; damping raised to {:g}\n", report.layer,
                            report.module, report.damp);
  };
  options.progress = [&](int64_t done, int64_t total) {
    if (rt.signal != 0)
      fail(rt.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated,
           "stopped; the layers that are finished are kept in {}: run the same command again", target.out);
    if (!progress) progress.emplace("gptq", "groups", total);
    progress->update(
        done, last.module.empty() ? "" : fmt::format("layer {} {} error {:.4f}", last.layer, last.module, last.error));
  };
  formats::Provenance provenance = quantized_provenance(files, described(options.gptq), rt);
  provenance.calibration_hash = rows.hash;
  const auto result = calib::quantize_model(files, calib::weights_of(files), rows, provenance, target.out, options);
  if (progress) progress->finish();
  print_summary(result, target.out, rt);
  const std::string shown = shell_quoted(target.out);
  rt.out << fmt::format(
      "\nnext:\n  slmi inspect {}\n  slmi eval --model before={} --model gptq={} --data TEST.jsonl --out {}\n", shown,
      shell_quoted(target.model_path), shown, shell_quoted(target.out + "-eval"));
}

}  // namespace slmi::cli
