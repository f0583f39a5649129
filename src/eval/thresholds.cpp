// "[NAME=]PATH", "[NAME:]METRIC=VALUE", and whether thresholds are met; see evaluate.h.
#include <algorithm>
#include <array>
#include <charconv>

#include "slmi/base/error.h"
#include "slmi/base/suggest.h"
#include "slmi/eval/evaluate.h"

namespace slmi::eval {
namespace {

using report::ModelReport;

/// Metrics that a threshold may name.
const std::vector<std::string> kMetrics = {"exact_match",     "string_match", "valid_json",
                                           "intent_accuracy", "slot_f1",      "macro_f1"};

std::optional<double> value_of(const ModelReport& model, const std::string& metric) {
  const auto of = [](const std::optional<report::Interval>& score) -> std::optional<double> {
    return score ? std::optional(score->value) : std::nullopt;
  };
  if (metric == "exact_match") return model.exact_match.value;
  if (metric == "string_match") return of(model.string_match);
  if (metric == "valid_json") return of(model.valid_json);
  if (metric == "intent_accuracy") return of(model.intent_accuracy);
  if (metric == "slot_f1") return of(model.slot_f1);
  if (metric == "macro_f1") return of(model.macro_f1);
  fail(ErrorKind::Internal, "metric '{}' has no value here", metric);
}

/// The systems that thresholds without a name hold for.
std::vector<const ModelReport*> judged(const report::EvalReport& report) {
  std::vector<const ModelReport*> all, others;
  for (const auto& model : report.models) {
    if (model.engine == "baseline") continue;
    all.push_back(&model);
    if (model.against) others.push_back(&model);
  }
  return others.empty() ? all : others;
}

}  // namespace

NamedPath parse_named_path(const std::string& text) {
  const size_t at = text.find('=');
  // A path may hold '=' too: what comes before it is a name only if it looks like none.
  const bool named = at != std::string::npos && text.find('/') > at;
  NamedPath out{named ? text.substr(0, at) : std::string(), named ? text.substr(at + 1) : text};
  require(!(named && out.name.empty()) && !out.path.empty(), ErrorKind::Usage, "'{}': expected NAME=PATH or PATH",
          text);
  return out;
}

Threshold parse_threshold(const std::string& text) {
  const size_t equals = text.rfind('=');
  require(equals != std::string::npos, ErrorKind::Usage,
          "--fail-under {}: expected METRIC=VALUE, e.g. exact_match=0.97", text);
  Threshold out;
  std::string metric = text.substr(0, equals);
  if (const size_t colon = metric.rfind(':'); colon != std::string::npos) {
    out.system = metric.substr(0, colon);
    metric.erase(0, colon + 1);
  }
  if (std::find(kMetrics.begin(), kMetrics.end(), metric) == kMetrics.end()) {
    const std::string near = nearest_name(metric, kMetrics);
    fail(ErrorKind::Usage, "--fail-under {}: no metric '{}'{}; there are {}", text, metric,
         near.empty() ? "" : fmt::format("; did you mean {}?", near), fmt::join(kMetrics, ", "));
  }
  out.metric = metric;
  const std::string value = text.substr(equals + 1);
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out.value);
  require(error == std::errc() && end == value.data() + value.size() && out.value >= 0.0 && out.value <= 1.0,
          ErrorKind::Usage, "--fail-under {}: '{}' is not a share from 0 to 1", text, value);
  return out;
}

void check_thresholds(const report::EvalReport& report, const EvaluateOptions& options) {
  std::vector<std::string> problems;
  for (const auto& threshold : options.thresholds) {
    std::vector<const ModelReport*> systems;
    if (threshold.system.empty()) {
      systems = judged(report);
    } else {
      for (const auto& model : report.models)
        if (model.name == threshold.system) systems.push_back(&model);
      require(!systems.empty(), ErrorKind::Usage, "--fail-under {}:{}: no system of that name", threshold.system,
              threshold.metric);
    }
    for (const auto* system : systems) {
      const auto value = value_of(*system, threshold.metric);
      if (!value)
        problems.push_back(fmt::format("{}: {} has no value on these rows", system->name, threshold.metric));
      else if (!(*value >= threshold.value))
        problems.push_back(
            fmt::format("{}: {} is {:.4f}, wanted {:.4f}", system->name, threshold.metric, *value, threshold.value));
    }
  }
  require(problems.empty(), ErrorKind::Findings, "--fail-under is not met:\n  {}", fmt::join(problems, "\n  "));
}

}  // namespace slmi::eval
