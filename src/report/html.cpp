// The one-file HTML form of a report: tables and inline SVG, no scripts, nothing fetched.
#include <algorithm>
#include <cmath>

#include "comparison.h"
#include "page.h"
#include "slmi/base/error.h"
#include "slmi/report/plot.h"
#include "slmi/report/writers.h"

namespace slmi::report {
namespace {

constexpr size_t kHtmlExamples = 200;  // of errors and of flipped rows a model; the JSON has all
constexpr size_t kLargestMatrix = 40;  // labels; above that the most frequent confusions are a table
constexpr size_t kHtmlConfusions = 30;

/// One figure a model that is seen first: its exact match, and how long a request takes.
std::string cards(const EvalReport& report) {
  std::string out = "<div class=\"cards\">\n";
  for (const auto& model : report.models) {
    std::string bounds;
    if (model.exact_match.low && model.exact_match.high) {
      bounds = fmt::format(" ({:.1f}–{:.1f})", *model.exact_match.low * 100, *model.exact_match.high * 100);
    }
    auto details = fmt::format("exact match{} on {} rows", bounds, count(model.n));
    if (model.latency_ms.e2e.p50) details += fmt::format("; {} ms a request", number(model.latency_ms.e2e.p50));
    out += fmt::format("<div class=\"card\">{}<b>{}</b><span class=\"soft\">{}</span></div>\n", escape_html(model.name),
                       percent(model.exact_match.value), escape_html(details));
  }
  return out + "</div>\n";
}

std::string match_plot(const EvalReport& report) {
  std::vector<Bar> bars;
  for (const auto& m : report.models) {
    if (!std::isfinite(m.exact_match.value)) continue;
    const auto scaled = [](std::optional<double> v) { return v ? std::optional<double>(*v * 100) : std::nullopt; };
    bars.push_back({m.name, m.exact_match.value * 100, scaled(m.exact_match.low), scaled(m.exact_match.high),
                    percent(m.exact_match.value)});
  }
  return bar_plot({.title = "Exact match in %, with 95 % intervals"}, bars, 100.0);
}

/// Share of requests that were answered within x ms.
std::string latency_plot(const EvalReport& report) {
  std::vector<Series> lines;
  double low = INFINITY, high = 0;
  for (size_t k = 0; k < report.models.size(); ++k) {
    const auto& m = report.models[k];
    auto samples = m.e2e_samples_ms;
    std::erase_if(samples, [](double v) { return !std::isfinite(v) || v <= 0; });
    std::sort(samples.begin(), samples.end());
    Series line{m.name, samples, {}, false, static_cast<int>(k)};
    for (size_t i = 0; i < samples.size(); ++i) {
      line.y.push_back(100.0 * static_cast<double>(i + 1) / static_cast<double>(samples.size()));
    }
    if (samples.empty()) continue;
    low = std::min(low, samples.front());
    high = std::max(high, samples.back());
    lines.push_back(std::move(line));
  }
  constexpr double kManyTimes = 20;  // beyond this ratio a linear axis would hide the faster system
  return line_plot({.title = "Latency: requests answered within x ms, in %",
                    .x_label = "whole request, ms",
                    .y_label = "% of requests",
                    .log_x = high > low * kManyTimes,
                    .y_low = 0,
                    .y_high = 100},
                   lines);
}

void add_training(std::string& out, const EvalReport& report) {
  std::vector<Series> losses, matches;
  for (const auto& curve : report.training) {
    const auto prefix = report.training.size() > 1 ? curve.name + ": " : "";
    if (!curve.loss.empty()) losses.push_back({prefix + "training loss", curve.step, curve.loss, false, -1});
    if (!curve.val_loss.empty())
      losses.push_back({prefix + "validation loss", curve.val_step, curve.val_loss, true, -1});
    if (curve.val_exact_match.empty()) continue;
    auto percents = curve.val_exact_match;
    for (auto& v : percents) v *= 100;
    matches.push_back({prefix + "validation", curve.match_step, percents, true, -1});
  }
  if (losses.empty() && matches.empty()) return;
  out += element("h2", "Training") + "<div class=\"plots\">\n";
  add_plot(out, line_plot({.title = "Loss per target token", .x_label = "step", .y_from_zero = true}, losses));
  add_plot(out, line_plot({.title = "Exact match in %", .x_label = "step", .y_low = 0, .y_high = 100}, matches));
  out += "</div>\n";
}

void add_confusion(std::string& out, const Confusion& confusion) {
  if (confusion.expected.size() <= kLargestMatrix && confusion.answered.size() <= kLargestMatrix) {
    add_plot(out, matrix_plot({.title = "Intents: expected by answered, rows of the test set",
                               .x_label = "answered",
                               .y_label = "expected",
                               .width = 820},
                              confusion.expected, confusion.answered, confusion.counts));
  }
  add_table(out, "Most frequent confusions", confused_table(confusion, kHtmlConfusions));
}

/// A long list of rows, folded.
void add_examples(std::string& out, const std::string& title, size_t total, const Table& table, bool open) {
  if (table.empty()) return;
  const auto shown = std::min(total, kHtmlExamples);
  const auto extent =
      shown < total ? fmt::format("{} of {}", count(static_cast<int64_t>(shown)), count(static_cast<int64_t>(total)))
                    : count(static_cast<int64_t>(total));
  out += fmt::format("<details{}><summary>{} ({})</summary>\n", open ? " open" : "", escape_html(title), extent);
  add_table(out, "", table, "examples");
  out += "</details>\n";
}

void add_model(std::string& out, const ModelReport& model) {
  std::string body;
  add_table(body, "Fields", fields_table(model));
  add_table(body, "Intents", intents_table(model));
  add_table(body, "Slices", parts_table(model.slices, "slice"));
  add_table(body, "Languages", parts_table(model.languages, "language"));
  if (model.confusion) add_confusion(body, *model.confusion);
  add_examples(body, "Worst errors", model.errors.size(), examples_table(model.errors, kHtmlExamples),
               model.errors.size() <= 12);
  if (model.against) {
    add_examples(body, "Rows that flipped against " + model.against->reference, model.against->flipped.size(),
                 flipped_table(*model.against, kHtmlExamples), false);
  }
  if (!body.empty()) out += element("h2", model.name) + body;
}

}  // namespace

std::string to_html(const EvalReport& report) {
  std::string out = page_begin(report.title, report.date, report.machine, report.notes);
  out += cards(report);
  out += element("h2", "Comparison");
  add_table(out, "", comparison_table(report, EmptyRows::Keep), "compare");
  out += "<div class=\"plots\">\n";
  add_plot(out, match_plot(report));
  add_plot(out, latency_plot(report));
  out += "</div>\n";
  if (const auto against = against_table(report); !against.empty()) {
    out += element("h2", "Against the reference");
    out +=
        "<p class=\"soft\">Lost: rows that the reference had right and this model has wrong; gained: the other way "
        "round. A small p says that such a difference would seldom come by chance. The smallest visible drop is the "
        "one that a set of this size could have shown.</p>\n";
    add_table(out, "", against);
  }
  add_training(out, report);
  for (const auto& model : report.models) add_model(out, model);
  out += element("h2", "What was measured, where and how");
  add_table(out, "", models_table(report), "wide");
  add_table(out, "", environment_table(report), "wide");
  add_table(out, "", data_table(report), "wide");
  return out + kPageEnd;
}

}  // namespace slmi::report
