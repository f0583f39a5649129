// Comparing a model with what was made of it; see the header.
#include "slmi/eval/drift.h"

#include <algorithm>

#include "score.h"
#include "slmi/base/error.h"
#include "slmi/metrics/summary.h"
#include "system.h"

namespace slmi::eval {
namespace {

namespace fs = std::filesystem;

/// One model's answers, scored.
System measure(const std::string& name, const fs::path& path, const DriftOptions& options,
               const model::OpenOptions& open, const MeasureHooks& hooks) {
  MeasureOptions measure;
  measure.latency_rows = 0;
  measure.loss = true;
  measure.answer_form = options.answer_form;
  measure.max_new_tokens = options.max_new_tokens;
  MeasureHooks named = hooks;
  if (hooks.progress)
    named.progress = [&](const std::string& stage, int64_t done, int64_t total) {
      hooks.progress(name + ": " + stage, done, total);
    };
  System system;
  system.name = name;
  system.run = measure_model(name, path, options.rows, open, measure, named);
  system.answers = std::move(system.run->answers);
  const data::RowSet set = read_source(options.rows, system.run->facts.system_text);
  match_rows(system, set);
  score_rows(system, set);
  return system;
}

double match_of(const System& system, size_t rows) {
  const auto right =
      std::ranges::count_if(system.scores, [](const metrics::RowScore& score) { return score.exact_match; });
  return static_cast<double>(right) / static_cast<double>(rows);
}

}  // namespace

Drift measure_drift(const DriftOptions& options, const MeasureHooks& hooks) {
  model::OpenOptions open_after;
  open_after.load = options.open_before.load;
  const System before = measure("before", options.before, options, options.open_before, hooks);
  const System after = measure("after", options.after, options, open_after, hooks);
  const metrics::Comparison c = metrics::compare(before.name, before.scores, after.scores);
  Drift out;
  out.files = options.rows.files;
  out.rows = c.n_both;
  out.loss_before = before.run->loss;
  out.loss_after = after.run->loss;
  out.match_before = match_of(before, before.scores.size());
  out.match_after = match_of(after, after.scores.size());
  out.lost = c.lost;
  out.gained = c.gained;
  out.p = c.p;
  out.smallest_drop = c.smallest_drop;
  for (const auto& row : c.flipped)
    if (row.flip == metrics::Flip::Lost) out.lost_ids.push_back(row.id);
  return out;
}

Json to_json(const Drift& d) {
  const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  Json files = Json::array();
  for (const auto& file : d.files) files.push_back(file.string());
  return {{"data", files},
          {"rows", d.rows},
          {"loss_before", number(d.loss_before)},
          {"loss_after", number(d.loss_after)},
          {"exact_match_before", d.match_before},
          {"exact_match_after", d.match_after},
          {"lost", d.lost},
          {"gained", d.gained},
          {"p", d.p},
          {"smallest_drop", number(d.smallest_drop)},
          {"lost_ids", d.lost_ids}};
}

std::string drift_text(const Drift& d) {
  std::string out = fmt::format("drift on {} rows: exact match {:.2f} % -> {:.2f} % ({} lost, {} gained, p = {:.3g})",
                                d.rows, 100 * d.match_before, 100 * d.match_after, d.lost, d.gained, d.p);
  if (d.loss_before && d.loss_after) out += fmt::format(", loss {:.4f} -> {:.4f}", *d.loss_before, *d.loss_after);
  if (d.smallest_drop)
    out += fmt::format("\n  a drop of {:.2f} points would have been significant on these rows", 100 * *d.smallest_drop);
  return out + "\n";
}

}  // namespace slmi::eval
