// Pieces that the plots share: numbers and texts in SVG, axis ticks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "slmi/report/plot.h"

namespace slmi::report {

/// A coordinate with at most one decimal.
std::string coordinate(double value);

/// "0.25", "1,500", "2e-05": a tick's label, with as many decimals as `step` needs.
std::string tick_text(double value, double step);

/// Round values (1, 2 or 5 times a power of ten) inside [low, high], about `count` of them.
struct Ticks {
  double step = 1;
  std::vector<double> values;
};
Ticks round_ticks(double low, double high, int count);

enum class Anchor { Start, Middle, End };
std::string svg_text(double x, double y, std::string_view text, Anchor anchor, std::string_view css_class = "");

/// The opening tag (with title for readers of screens) and, above the drawing, the title.
std::string svg_open(const PlotOptions& options, int height);

/// Estimated width of a label in the plots' 12 px type: 7 px a column is a wide average.
double label_width(std::string_view text);

/// The text cut to `columns` columns, with an ellipsis if something was cut.
std::string shortened(const std::string& text, int columns);

constexpr int kTitleHeight = 28;  // of the band that svg_open puts the title in
constexpr int kNumColours = 8;    // CSS variables --c0 .. --c7

}  // namespace slmi::report
