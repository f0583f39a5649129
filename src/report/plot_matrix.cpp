// Bars with whiskers and shaded count matrices; see plot.h.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "slmi/base/error.h"
#include "slmi/report/plot.h"
#include "slmi/report/table.h"
#include "svg.h"

namespace slmi::report {
namespace {

constexpr int kLongestLabel = 28;  // columns; longer names are cut, their whole text is the tooltip

double widest_label(const std::vector<std::string>& names) {
  double out = 0;
  for (const auto& name : names) out = std::max(out, label_width(shortened(name, kLongestLabel)));
  return out;
}

std::string whiskers(double low, double high, double y) {
  return fmt::format("<path class=\"whisker\" d=\"M{0} {2}H{1}M{0} {3}v8M{1} {3}v8\"/>\n", coordinate(low),
                     coordinate(high), coordinate(y), coordinate(y - 4));
}

}  // namespace

std::string bar_plot(const PlotOptions& options, const std::vector<Bar>& bars, std::optional<double> high) {
  constexpr double kBarHeight = 18, kRowHeight = 28;
  double longest = 0, value_width = 0;
  std::vector<std::string> names;
  for (const auto& bar : bars) {
    require(std::isfinite(bar.value), ErrorKind::Internal, "plot '{}', bar '{}': not a finite value", options.title,
            bar.name);
    names.push_back(bar.name);
    longest = std::max({longest, bar.value, bar.high.value_or(0)});
    value_width = std::max(value_width, label_width(bar.text));
  }
  if (bars.empty()) return "";
  if (high) longest = *high;
  if (longest <= 0) longest = 1;
  const double left = widest_label(names) + 10, right = options.width - value_width - 12;
  const auto at = [&](double value) { return left + std::clamp(value / longest, 0.0, 1.0) * (right - left); };
  const int height = kTitleHeight + static_cast<int>(kRowHeight * static_cast<double>(bars.size())) + 26;
  auto out = svg_open(options, height);
  const double bottom = height - 22;
  const auto ticks = round_ticks(0, longest, 5);
  for (const double v : ticks.values) {
    out += fmt::format("<path class=\"grid\" d=\"M{} {}V{}\"/>\n", coordinate(at(v)), kTitleHeight, coordinate(bottom));
    out += svg_text(at(v), bottom + 16, tick_text(v, ticks.step), Anchor::Middle);
  }
  for (size_t i = 0; i < bars.size(); ++i) {
    const auto& bar = bars[i];
    const double y = kTitleHeight + kRowHeight * static_cast<double>(i) + kRowHeight / 2;
    out += svg_text(left - 8, y + 4, shortened(bar.name, kLongestLabel), Anchor::End);
    out +=
        fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"var(--c{})\"><title>{}</title></rect>\n",
                    coordinate(left), coordinate(y - kBarHeight / 2), coordinate(at(bar.value) - left),
                    coordinate(kBarHeight), i % kNumColours, escape_html(bar.name));
    if (bar.low && bar.high) out += whiskers(at(*bar.low), at(*bar.high), y);
    out += svg_text(options.width, y + 4, bar.text, Anchor::End);
  }
  return out + "</svg>\n";
}

std::string matrix_plot(const PlotOptions& options, const std::vector<std::string>& rows,
                        const std::vector<std::string>& columns, const std::vector<std::vector<int64_t>>& counts) {
  require(counts.size() == rows.size(), ErrorKind::Internal, "plot '{}': {} rows of counts, {} labels", options.title,
          counts.size(), rows.size());
  if (rows.empty() || columns.empty()) return "";
  // The axes' names stand before the labels: rows' at the left above them, columns' above the slanted ones.
  const double left = widest_label(rows) + 12;
  const double cell = std::clamp((options.width - left - 60) / static_cast<double>(columns.size()), 16.0, 46.0);
  const double slant = widest_label(columns) * 0.72 + 14;  // height of labels at 45 degrees
  const double top = kTitleHeight + 16 + slant;
  const int height = static_cast<int>(top + cell * static_cast<double>(rows.size())) + 8;
  PlotOptions sized = options;
  sized.width = std::max(options.width, static_cast<int>(left + cell * static_cast<double>(columns.size()) + slant));
  auto out = svg_open(sized, height);
  out += svg_text(0, top - 8, options.y_label, Anchor::Start, "label");
  out += svg_text(left, kTitleHeight + 8, options.x_label, Anchor::Start, "label");
  for (size_t j = 0; j < columns.size(); ++j) {
    out += fmt::format("<text transform=\"translate({} {}) rotate(-45)\">{}</text>\n",
                       coordinate(left + cell * (static_cast<double>(j) + 0.5)), coordinate(top - 6),
                       escape_html(shortened(columns[j], kLongestLabel)));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    require(counts[i].size() == columns.size(), ErrorKind::Internal, "plot '{}': row {} has {} counts, {} labels",
            options.title, i, counts[i].size(), columns.size());
    const double y = top + cell * static_cast<double>(i);
    out += svg_text(left - 8, y + cell / 2 + 4, shortened(rows[i], kLongestLabel), Anchor::End);
    const auto total = std::accumulate(counts[i].begin(), counts[i].end(), int64_t{0});
    for (size_t j = 0; j < columns.size(); ++j) {
      const double x = left + cell * static_cast<double>(j);
      const double share = total > 0 ? static_cast<double>(counts[i][j]) / static_cast<double>(total) : 0;
      const bool right_answer = rows[i] == columns[j];
      // Even one row in a thousand must be seen: shades start at 15 %.
      const double shade = counts[i][j] == 0 ? 0 : 0.15 + 0.85 * share;
      out += fmt::format(
          "<rect class=\"cell\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"var(--c{})\" "
          "fill-opacity=\"{:.2f}\"><title>{} / {}: {}</title></rect>\n",
          coordinate(x), coordinate(y), coordinate(cell), coordinate(cell), right_answer ? 0 : 1, shade,
          escape_html(rows[i]), escape_html(columns[j]), counts[i][j]);
      if (counts[i][j] == 0) continue;
      out += svg_text(x + cell / 2, y + cell / 2 + 4, fmt::format("{}", counts[i][j]), Anchor::Middle,
                      shade > 0.55 ? "on" : "count");
    }
  }
  return out + "</svg>\n";
}

}  // namespace slmi::report
