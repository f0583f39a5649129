// The one-file HTML form of a report: tables and inline SVG, no scripts, nothing fetched.
#include <algorithm>
#include <cmath>

#include "comparison.h"
#include "slmi/base/error.h"
#include "slmi/report/plot.h"
#include "slmi/report/writers.h"

namespace slmi::report {
namespace {

constexpr size_t kHtmlExamples = 200;  // of errors and of flipped rows a model; the JSON has all
constexpr size_t kLargestMatrix = 40;  // labels; above that the most frequent confusions are a table
constexpr size_t kHtmlConfusions = 30;

// Colours: Okabe & Ito 2008 (told apart by the colour-blind), lightened where the ground is dark.
constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1d21;--soft:#5b6470;--grid:#dfe3e8;--card:#f6f8fa;--on:#fff;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#aa4499;--c4:#b8860b;--c5:#56b4e9;--c6:#882255;--c7:#555}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e9ec;--soft:#9aa4af;--grid:#333a41;--card:#1d2125;
--on:#0c0e10;--c0:#5ab4f0;--c1:#f08c4a;--c2:#3ecf9f;--c3:#d98ac8;--c4:#e0b040;--c5:#8fd0f7;--c6:#d0789f;--c7:#aaa}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1100px;padding:24px 20px 60px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 12px;padding-top:12px;border-top:1px solid var(--grid)}
h3{font-size:16px;margin:24px 0 8px}p{margin:6px 0}.soft{color:var(--soft)}
.note{background:var(--card);border-left:4px solid var(--c1);padding:8px 12px;margin:12px 0}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.card{background:var(--card);border-radius:8px;padding:12px 16px;flex:1 1 200px;overflow-wrap:anywhere}
.card b{display:block;font-size:24px;line-height:1.3}.card .soft{font-size:13px}
.scroll{overflow-x:auto;margin:8px 0 16px}
table{border-collapse:collapse;font-size:13.5px;min-width:40%}
th,td{padding:5px 10px;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top;overflow-wrap:break-word}
thead th{border-bottom:2px solid var(--soft);overflow-wrap:normal}
.num{text-align:right;font-variant-numeric:tabular-nums}td.num{white-space:nowrap}
.compare td:first-child{position:sticky;left:0;background:var(--bg);min-width:118px}
tr.heading th{padding-top:14px;color:var(--soft);font-weight:600;font-size:12.5px}
.examples td{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:12px;min-width:90px;max-width:320px;
overflow-wrap:anywhere;white-space:pre-wrap}
.wide td:nth-child(n+2){overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:24px;margin:12px 0}
figure{margin:0}svg{width:100%;height:auto;display:block;max-width:900px}
svg text{fill:var(--fg);font-size:12px}svg .title{font-size:14px;font-weight:600}svg .label{fill:var(--soft)}
svg .grid{stroke:var(--grid);fill:none}svg .axis{stroke:var(--soft);fill:none}
svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}svg .whisker{stroke:var(--fg);fill:none;stroke-width:1.4}
svg .cell{stroke:var(--grid)}svg .on{fill:var(--on)}svg .count{fill:var(--fg)}
details{margin:8px 0}summary{cursor:pointer;font-weight:600;padding:4px 0}
@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--grid:#ccc;--card:#f4f4f4;--on:#fff}
body{max-width:none;padding:0;font-size:11px}table{font-size:10px}.scroll{overflow:visible}
h2,h3{break-after:avoid}figure,tr,.card{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
)";

std::string element(const char* tag, const std::string& text) {
  return fmt::format("<{0}>{1}</{0}>\n", tag, escape_html(text));
}

/// A titled table in a frame that scrolls sideways on narrow screens; nothing for an empty table.
void add_table(std::string& out, const std::string& title, const Table& table, const char* css_class = "") {
  if (table.empty()) return;
  if (!title.empty()) out += element("h3", title);
  out += fmt::format("<div class=\"scroll {}\">", css_class) + table.html() + "</div>\n";
}

void add_plot(std::string& out, const std::string& svg) {
  if (!svg.empty()) out += "<figure>" + svg + "</figure>\n";
}

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
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += element("title", report.title) + "<style>" + kStyle + "</style></head><body>\n" + element("h1", report.title);
  const auto machine = report.machine.cpu.empty() ? "" : " on " + report.machine.cpu;
  out += fmt::format("<p class=\"soft\">{}{}</p>\n", escape_html(or_dash(report.date)), escape_html(machine));
  for (const auto& note : report.notes) out += fmt::format("<p class=\"note\">{}</p>\n", escape_html(note));
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
  return out + "</body></html>\n";
}

}  // namespace slmi::report
