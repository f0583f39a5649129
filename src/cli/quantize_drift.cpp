// Drift of a quantized model; see the header.
#include "quantize_drift.h"

#include <iostream>

#include "quantize_rows.h"

namespace slmi::cli {
namespace {

/// Rows to compare on; no files, with a line for the user, where there are none.
eval::RowSource drift_rows(const QuantizeConfig& config, const model::ModelFiles& files, Runtime& rt) {
  if (config.rows == 0) return {};
  eval::RowSource rows = rows_of(config, files, config.val, model::validation_rows).source;
  rows.limit = config.rows;
  if (rows.files.empty())
    rt.out
        << "drift: not measured; name rows with --val FILE.jsonl (a run's own are taken where they are still there)\n";
  return rows;
}

}  // namespace

QuantizeSource open_source(const QuantizeConfig& config, Runtime& rt) {
  QuantizeSource out;
  out.open = open_options(config.model);
  out.files = model::open_files(config.model_path, out.open);
  if (!out.files.note.empty()) rt.err << "note: " << out.files.note << "\n";
  return out;
}

std::optional<eval::Drift> measure_drift(const QuantizeConfig& config, const QuantizeSource& source,
                                         bool quantized_base, StageProgress& stages, Runtime& rt) {
  eval::DriftOptions options;
  options.rows = drift_rows(config, source.files, rt);
  if (options.rows.files.empty()) return std::nullopt;
  options.before = config.model_path;
  options.after = config.out;
  options.open_before = source.open;
  options.answer_form = config.answer_form;
  const eval::Drift drift = eval::measure_drift(options, stages.hooks());
  stages.finish();
  rt.out << eval::drift_text(drift);
  if (quantized_base)
    rt.out << fmt::format(
        "  a lower bound: the base {} was published in {} already; what that cost is not in these figures\n",
        source.files.base_path.string(), source.files.checkpoint->formats_text());
  return drift;
}

void check_drop(const std::optional<eval::Drift>& drift, const QuantizeConfig& config) {
  if (drift && drift->drop_points() > config.max_drop)
    fail(ErrorKind::Findings, "exact match fell by {:.2f} points on {} rows; --max-drop allows {:g} ({} is written)",
         drift->drop_points(), drift->rows, config.max_drop, config.out);
}

}  // namespace slmi::cli
