// A study's table and its texts; see the header.
#include "slmi/report/study.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "comparison.h"
#include "page.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/report/plot.h"

namespace slmi::report {
namespace {

constexpr const char* kRoofNote =
    "Roof: the least time that the bytes and operations of a format allow at this machine's measured bandwidth and "
    "matrix rate. A format far above its roof waits for its own code; one at its roof waits for the machine.";
constexpr const char* kPredictionNote =
    "PREDICTED, not measured: what bytes and operations allow at the published bandwidth and matrix rate of hardware "
    "that is not here, at the efficiency noted. No kernel's overhead is in it.";

/// A column of the study's table: its title and a cell's text, "-" for nothing.
struct StudyColumn {
  const char* title;
  Align align;
  std::string (*text)(const StudyCell&);
};

const ModelReport* run_of(const StudyCell& cell) {
  return cell.run ? &*cell.run : nullptr;
}

/// Quality says nothing of weights that were never trained.
bool has_quality(const StudyCell& cell) {
  return cell.run && cell.run->weights != Weights::Random && cell.run->n > 0;
}

std::optional<double> best_rate(const StudyCell& cell) {
  std::optional<double> best;
  if (const auto* run = run_of(cell))
    for (const auto& [batch, rate] : run->requests_per_s)
      if (std::isfinite(rate) && (!best || rate > *best)) best = rate;
  return best;
}

std::string difference_text(const StudyCell& cell) {
  if (!has_quality(cell) || !cell.run->against) return "-";
  const auto& a = *cell.run->against;
  if (a.n == 0) return "-";
  return fmt::format("{:+.1f} ({} lost, {} gained, p {})",
                     100.0 * static_cast<double>(a.gained - a.lost) / static_cast<double>(a.n), a.lost, a.gained,
                     p_value(a.p));
}

std::string memory_text(const StudyCell& cell) {
  const auto* run = run_of(cell);
  if (run == nullptr || !run->rss_anon_bytes) return "-";
  return bytes(*run->rss_anon_bytes + run->rss_file_bytes.value_or(0));
}

std::string p50(const StudyCell& cell, Quantiles Latency::*what) {
  const auto* run = run_of(cell);
  return run == nullptr ? "-" : number((run->latency_ms.*what).p50);
}

/// How many times its roof a token takes.
std::optional<double> over_roof(const StudyCell& cell) {
  const auto* run = run_of(cell);
  if (run == nullptr || !cell.roof || !run->latency_ms.tpot.p50 || cell.roof->tpot <= 0) return std::nullopt;
  return *run->latency_ms.tpot.p50 / cell.roof->tpot;
}

const std::vector<StudyColumn>& study_columns() {
  static const std::vector<StudyColumn> columns = {
      {"format", Align::Left, [](const StudyCell& c) { return c.format; }},
      {"exact match", Align::Right,
       [](const StudyCell& c) { return has_quality(c) ? percent(c.run->exact_match) : std::string("-"); }},
      {"points against 16 bits", Align::Right, difference_text},
      {"file", Align::Right, [](const StudyCell& c) { return bytes(c.file_bytes); }},
      {"load, s", Align::Right, [](const StudyCell& c) { return c.run ? number(c.run->load_s) : std::string("-"); }},
      {"RAM", Align::Right, memory_text},
      {"VRAM", Align::Right,
       [](const StudyCell& c) { return c.run ? bytes(c.run->vram_allocator_bytes) : std::string("-"); }},
      {"first token, ms", Align::Right, [](const StudyCell& c) { return p50(c, &Latency::ttft); }},
      {"a token, ms", Align::Right, [](const StudyCell& c) { return p50(c, &Latency::tpot); }},
      {"request, ms", Align::Right, [](const StudyCell& c) { return p50(c, &Latency::e2e); }},
      {"requests/s, best batch", Align::Right, [](const StudyCell& c) { return number(best_rate(c)); }},
      {"J a request", Align::Right,
       [](const StudyCell& c) { return c.run ? number(c.run->joules_per_request) : std::string("-"); }},
      {"cost of 10^6", Align::Right, [](const StudyCell& c) { return number(c.cost_per_million); }},
      {"roof: a token, ms", Align::Right,
       [](const StudyCell& c) { return c.roof ? number(c.roof->tpot) : std::string("-"); }},
      {"times the roof", Align::Right, [](const StudyCell& c) { return number(over_roof(c)); }},
      {"bound by", Align::Left,
       [](const StudyCell& c) { return c.roof ? or_dash(c.roof->decode_bound) : std::string("-"); }},
  };
  return columns;
}

std::string group_of(const StudyCell& cell) {
  std::string out = fmt::format("{} on {}", cell.model, cell.device);
  if (cell.device == "cpu") out += fmt::format(", {} thread{}", cell.threads, cell.threads == 1 ? "" : "s");
  if (cell.run && cell.run->weights == Weights::Random) out += " (random weights: no statement about quality)";
  return out;
}

/// What the shared tables of an evaluation need to know.
EvalReport frame_of(const StudyReport& report) {
  EvalReport out;
  out.command = report.command;
  out.date = report.date;
  out.machine = report.machine;
  out.build = report.build;
  out.data = report.data;
  return out;
}

Table ceilings_table(const StudyReport& report) {
  Table table({{"device"},
               {"threads", Align::Right},
               {"read, GB/s", Align::Right},
               {"f32, GFLOP/s", Align::Right},
               {"bf16, GFLOP/s", Align::Right},
               {"f16, GFLOP/s", Align::Right}});
  for (const auto& c : report.ceilings)
    table.add_row({c.device, count(c.threads), number(c.read_gb_per_s), number(c.f32_gflops), number(c.bf16_gflops),
                   number(c.f16_gflops)});
  return table;
}

Table problems_table(const StudyReport& report) {
  Table table({{"cell"}, {"why it could not run"}});
  for (const auto& cell : report.cells)
    if (!cell.problem.empty()) table.add_row({group_of(cell) + ": " + cell.format, cell.problem});
  return table;
}

/// Exact match against the time of a request, or, without quality, nothing.
std::string trade_off_plot(const StudyReport& report) {
  std::vector<Point> points;
  for (const auto& cell : report.cells)
    if (has_quality(cell) && cell.run->latency_ms.e2e.p50)
      points.push_back({cell.format, *cell.run->latency_ms.e2e.p50, 100 * cell.run->exact_match.value});
  return scatter_plot({.title = "Exact match in % against a request's time", .x_label = "whole request, ms"}, points);
}

std::string times_plot(const StudyReport& report) {
  std::vector<Bar> bars;
  for (const auto& cell : report.cells)
    if (cell.run && cell.run->latency_ms.tpot.p50)
      bars.push_back({cell.model + " " + cell.format, *cell.run->latency_ms.tpot.p50,
                      cell.roof ? std::optional<double>(cell.roof->tpot) : std::nullopt,
                      cell.roof ? cell.run->latency_ms.tpot.p50 : std::nullopt,
                      number(cell.run->latency_ms.tpot.p50, "ms")});
  return bar_plot({.title = "Time of a token in ms; the whisker begins at the roof"}, bars);
}

}  // namespace

Table study_table(const StudyReport& report) {
  std::vector<std::vector<std::string>> rows;
  std::vector<bool> used(study_columns().size(), false);
  for (const auto& cell : report.cells) {
    std::vector<std::string> row;
    for (size_t i = 0; i < study_columns().size(); ++i) {
      row.push_back(study_columns()[i].text(cell));
      used[i] = used[i] || row.back() != "-";
    }
    rows.push_back(std::move(row));
  }
  std::vector<Column> columns;
  for (size_t i = 0; i < used.size(); ++i)
    if (used[i]) columns.push_back({study_columns()[i].title, study_columns()[i].align});
  Table table(columns);
  std::string group;
  for (size_t k = 0; k < rows.size(); ++k) {
    if (const auto next = group_of(report.cells[k]); next != group) table.add_heading(group = next);
    std::vector<std::string> cells;
    for (size_t i = 0; i < used.size(); ++i)
      if (used[i]) cells.push_back(std::move(rows[k][i]));
    table.add_row(std::move(cells));
  }
  return table;
}

Table predictions_table(const StudyReport& report) {
  std::vector<std::string> hardware;
  for (const auto& p : report.predictions)
    if (std::find(hardware.begin(), hardware.end(), p.hardware) == hardware.end()) hardware.push_back(p.hardware);
  std::vector<Column> columns = {{"PREDICTED: first token + a token, ms"}};
  for (const auto& name : hardware) columns.push_back({name, Align::Right});
  Table table(columns);
  std::set<std::pair<std::string, std::string>> done;
  for (const auto& p : report.predictions) {
    if (!done.emplace(p.model, p.format).second) continue;
    std::vector<std::string> row = {p.model + " " + p.format};
    for (const auto& name : hardware) {
      const auto found = std::find_if(report.predictions.begin(), report.predictions.end(), [&](const auto& q) {
        return q.model == p.model && q.format == p.format && q.hardware == name;
      });
      row.push_back(found == report.predictions.end() ? "-"
                    : !found->problem.empty()         ? found->problem
                                                      : number(found->ttft) + " + " + number(found->tpot));
    }
    table.add_row(std::move(row));
  }
  return table;
}

std::string to_terminal(const StudyReport& report, int width) {
  std::string out = study_table(report).text(width);
  for (const auto& table : {problems_table(report), predictions_table(report)})
    if (!table.empty()) out.append("\n").append(table.text(width));
  return out;
}

std::string to_markdown(const StudyReport& report) {
  std::string out = fmt::format("# {}\n\n", escape_markdown(report.title));
  for (const auto& note : report.notes) out += fmt::format("> {}\n\n", escape_markdown(note));
  out += study_table(report).markdown() + "\n" + kRoofNote + "\n\n";
  const auto section = [&](const char* title, const Table& table) {
    if (!table.empty()) out += fmt::format("## {}\n\n", title) + table.markdown() + "\n";
  };
  section("Cells that could not run", problems_table(report));
  section("This machine's ceilings", ceilings_table(report));
  if (!report.predictions.empty()) out += std::string(kPredictionNote) + "\n\n";
  section("Hardware that is not here", predictions_table(report));
  section("What was measured, where and how", environment_table(frame_of(report)));
  section("Data", data_table(frame_of(report)));
  return out;
}

std::string to_csv(const StudyReport& report) {
  Table table({{"model"},
               {"format"},
               {"device"},
               {"threads"},
               {"problem"},
               {"n"},
               {"exact_match"},
               {"lost"},
               {"gained"},
               {"p"},
               {"file_bytes"},
               {"load_s"},
               {"rss_anon_bytes"},
               {"rss_file_bytes"},
               {"rss_peak_bytes"},
               {"vram_bytes"},
               {"ttft_p50_ms"},
               {"tpot_p50_ms"},
               {"e2e_p50_ms"},
               {"e2e_p95_ms"},
               {"requests_per_s"},
               {"joules_per_request"},
               {"cost_per_million"},
               {"roof_ttft_ms"},
               {"roof_tpot_ms"}});
  const auto plain = [](const auto& value) { return value ? fmt::format("{}", *value) : std::string(); };
  for (const auto& cell : report.cells) {
    std::vector<std::string> row = {cell.model, cell.format, cell.device, std::to_string(cell.threads), cell.problem};
    const ModelReport empty;
    const ModelReport& run = cell.run ? *cell.run : empty;
    const bool quality = has_quality(cell);
    const bool paired = quality && run.against;
    row.push_back(quality ? std::to_string(run.n) : "");
    row.push_back(quality ? fmt::format("{}", run.exact_match.value) : "");
    row.push_back(paired ? std::to_string(run.against->lost) : "");
    row.push_back(paired ? std::to_string(run.against->gained) : "");
    row.push_back(paired ? fmt::format("{}", run.against->p) : "");
    for (const auto& text :
         {plain(cell.file_bytes), plain(run.load_s), plain(run.rss_anon_bytes), plain(run.rss_file_bytes),
          plain(run.rss_peak_bytes), plain(run.vram_allocator_bytes), plain(run.latency_ms.ttft.p50),
          plain(run.latency_ms.tpot.p50), plain(run.latency_ms.e2e.p50), plain(run.latency_ms.e2e.p95),
          plain(best_rate(cell)), plain(run.joules_per_request), plain(cell.cost_per_million)})
      row.push_back(text);
    row.push_back(cell.roof ? fmt::format("{}", cell.roof->ttft) : "");
    row.push_back(cell.roof ? fmt::format("{}", cell.roof->tpot) : "");
    table.add_row(std::move(row));
  }
  return table.csv();
}

std::string to_html(const StudyReport& report) {
  std::string out = page_begin(report.title, report.date, report.machine, report.notes);
  out += element("h2", "Formats on this machine");
  add_table(out, "", study_table(report), "compare");
  out += fmt::format("<p class=\"soft\">{}</p>\n", kRoofNote);
  out += "<div class=\"plots\">\n";
  add_plot(out, trade_off_plot(report));
  add_plot(out, times_plot(report));
  out += "</div>\n";
  add_table(out, "Cells that could not run", problems_table(report));
  add_table(out, "This machine's ceilings", ceilings_table(report));
  if (const auto table = predictions_table(report); !table.empty()) {
    out += element("h2", "Hardware that is not here") + fmt::format("<p class=\"note\">{}</p>\n", kPredictionNote);
    add_table(out, "", table);
  }
  out += element("h2", "What was measured, where and how");
  add_table(out, "", environment_table(frame_of(report)), "wide");
  add_table(out, "", data_table(frame_of(report)), "wide");
  return out + kPageEnd;
}

void write_study(const StudyReport& report, const std::filesystem::path& directory) {
  slmi::create_directories(directory);
  write_file_atomically(directory / "study.json",
                        to_json(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  write_file_atomically(directory / "study.md", to_markdown(report));
  write_file_atomically(directory / "study.csv", to_csv(report));
  write_file_atomically(directory / "study.html", to_html(report));
}

}  // namespace slmi::report
