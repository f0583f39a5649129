// Inline SVG plots for HTML reports. Colours come from CSS variables of the page (--c0 .. --c7, --fg, --grid).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slmi::report {

struct Series {
  std::string name;
  std::vector<double> x, y;  // equal lengths; a NaN breaks the line
  bool dots = false;         // mark the points
  int colour = -1;           // 0..7, so that one model keeps its colour in all plots; -1: by position
};

struct PlotOptions {
  std::string title = {}, x_label = {}, y_label = {};
  int width = 640, height = 300;  // of the view box; the page scales it
  bool y_from_zero = false;
  bool log_x = false;                             // for x > 0; points at x <= 0 are left out
  std::optional<double> y_low = {}, y_high = {};  // fixed ends of the axis
};

/// Lines over a grid with a legend. Long series are thinned to their extremes per pixel. "" without a finite point.
std::string line_plot(const PlotOptions& options, const std::vector<Series>& series);

struct Bar {
  std::string name;
  double value = 0;
  std::optional<double> low = {}, high = {};  // whiskers
  std::string text = {};                      // shown at the bar's end
};
/// Horizontal bars from 0 to `high` (the largest value or whisker by default).
std::string bar_plot(const PlotOptions& options, const std::vector<Bar>& bars, std::optional<double> high = {});

/// Counts as shaded cells, rows by columns, each row shaded by its own share. Zero cells stay empty.
std::string matrix_plot(const PlotOptions& options, const std::vector<std::string>& rows,
                        const std::vector<std::string>& columns, const std::vector<std::vector<int64_t>>& counts);

struct Point {
  std::string name;
  double x = 0, y = 0;
};
/// Named points, for trade-offs (quality against latency or memory).
std::string scatter_plot(const PlotOptions& options, const std::vector<Point>& points);

}  // namespace slmi::report
