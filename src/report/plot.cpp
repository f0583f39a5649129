// Line and scatter plots; see the header.
#include "slmi/report/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "slmi/base/error.h"
#include "slmi/report/table.h"
#include "svg.h"

namespace slmi::report {

std::string coordinate(double value) {
  auto text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

std::string tick_text(double value, double step) {
  if (std::abs(value) < step * 1e-6) return "0";
  const double size = std::max(std::abs(value), step);
  if (size >= 1e7 || step < 1e-5) return fmt::format("{:.3g}", value);
  const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  auto text = fmt::format("{:.{}f}", value, decimals);
  if (decimals > 0) return text;
  for (auto at = static_cast<int>(text.size()) - 3; at > (text[0] == '-' ? 1 : 0); at -= 3) {
    text.insert(static_cast<size_t>(at), 1, ',');
  }
  return text;
}

Ticks round_ticks(double low, double high, int count) {
  Ticks out;
  const double rough = std::max((high - low) / count, 1e-300);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  out.step = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    if (out.step < rough) out.step = power * factor;
  }
  for (double k = std::ceil(low / out.step - 1e-9); k * out.step <= high + out.step * 1e-9; ++k) {
    out.values.push_back(k * out.step);
    if (out.values.size() > 100) break;  // a degenerate axis
  }
  return out;
}

std::string svg_text(double x, double y, std::string_view text, Anchor anchor, std::string_view css_class) {
  const char* side = anchor == Anchor::Start ? "start" : anchor == Anchor::Middle ? "middle" : "end";
  const auto style = css_class.empty() ? "" : fmt::format(" class=\"{}\"", css_class);
  return fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\"{}>{}</text>\n", coordinate(x), coordinate(y), side,
                     style, escape_html(text));
}

std::string svg_open(const PlotOptions& options, int height) {
  auto out = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", options.width, height,
                         escape_html(options.title));
  return out + svg_text(0, 16, options.title, Anchor::Start, "title");
}

double label_width(std::string_view text) {
  return 7.0 * display_width(text);
}

std::string shortened(const std::string& text, int columns) {
  if (display_width(text) <= columns) return text;
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t n = 1;
    while (i + n < text.size() && (static_cast<uint8_t>(text[i + n]) & 0xC0u) == 0x80u) ++n;
    if (display_width(out + text.substr(i, n)) > columns - 1) break;
    out += text.substr(i, n);
    i += n;
  }
  return out + "\xE2\x80\xA6";  // an ellipsis
}

namespace {

/// Maps values to pixels along one axis.
struct Axis {
  double low = 0, high = 1;
  double from = 0, to = 1;  // pixels
  bool log = false;

  double at(double value) const {
    const double a = log ? std::log(low) : low;
    const double b = log ? std::log(high) : high;
    return from + ((log ? std::log(value) : value) - a) / (b - a) * (to - from);
  }
};

/// Smallest and largest of what is shown.
struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

bool is_shown(const PlotOptions& options, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!options.log_x || x > 0);
}

/// The axes' ends: the data's, widened to round ticks on y; never of zero length.
void widen(const PlotOptions& options, Extent& x, Extent& y) {
  if (x.low == x.high) {
    const double by = options.log_x ? x.low / 2 : std::max(std::abs(x.low) * 0.1, 0.5);
    x.low -= by;
    x.high += by;
  }
  if (options.y_from_zero) y.add(0);
  if (y.low == y.high) {
    const double by = std::max(std::abs(y.low) * 0.1, 1e-3);
    y.low -= by;
    y.high += by;
  }
  const auto ticks = round_ticks(y.low, y.high, 5);
  y.low = std::floor(y.low / ticks.step + 1e-9) * ticks.step;
  y.high = std::ceil(y.high / ticks.step - 1e-9) * ticks.step;
  if (options.y_low) y.low = *options.y_low;
  if (options.y_high) y.high = *options.y_high;
}

/// The frame of a plot: where the axes lie, drawn with grid and labels.
struct Frame {
  Axis x, y;
  std::string svg;
};

Frame make_frame(const PlotOptions& options, Extent x, Extent y, double top) {
  widen(options, x, y);
  const auto y_ticks = round_ticks(y.low, y.high, 5);
  double left = 0;
  for (const double v : y_ticks.values) left = std::max(left, label_width(tick_text(v, y_ticks.step)));
  left += options.y_label.empty() ? 14 : 32;
  const double bottom = options.height - (options.x_label.empty() ? 24 : 42);
  const double right = options.width - 16;
  Frame out{{x.low, x.high, left, right, options.log_x}, {y.low, y.high, bottom, top, false}, ""};
  for (const double v : y_ticks.values) {
    const auto at = coordinate(out.y.at(v));
    out.svg += fmt::format("<path class=\"grid\" d=\"M{} {}H{}\"/>\n", coordinate(left), at, coordinate(right));
    out.svg += svg_text(left - 8, out.y.at(v) + 4, tick_text(v, y_ticks.step), Anchor::End);
  }
  Ticks x_ticks = round_ticks(x.low, x.high, 7);
  if (options.log_x) {
    x_ticks.values.clear();
    const bool dense = x.high / x.low < 100;
    for (double power = std::pow(10.0, std::floor(std::log10(x.low))); power <= x.high; power *= 10) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double v = power * factor;
        if ((dense || factor == 1.0) && v >= x.low && v <= x.high) x_ticks.values.push_back(v);
      }
    }
  }
  for (const double v : x_ticks.values) {
    out.svg += fmt::format("<path class=\"grid\" d=\"M{} {}V{}\"/>\n", coordinate(out.x.at(v)), coordinate(bottom),
                           coordinate(bottom + 4));
    const double step = options.log_x ? std::pow(10.0, std::floor(std::log10(v))) : x_ticks.step;
    out.svg += svg_text(out.x.at(v), bottom + 18, tick_text(v, step), Anchor::Middle);
  }
  out.svg += fmt::format("<path class=\"axis\" d=\"M{0} {1}H{2}\"/>\n", coordinate(left), coordinate(bottom),
                         coordinate(right));
  if (!options.x_label.empty()) {
    out.svg += svg_text((left + right) / 2, options.height - 6, options.x_label, Anchor::Middle, "label");
  }
  if (!options.y_label.empty()) {
    const double middle = (top + bottom) / 2;
    out.svg += fmt::format(
        "<text transform=\"translate(12 {}) rotate(-90)\" text-anchor=\"middle\" class=\"label\">{}</text>\n",
        coordinate(middle), escape_html(options.y_label));
  }
  return out;
}

/// The indices to draw: all of a short series, else the lowest and highest of each of `buckets` runs.
std::vector<size_t> thinned(const std::vector<double>& y, size_t buckets) {
  std::vector<size_t> out;
  if (y.size() <= 2 * buckets) {
    for (size_t i = 0; i < y.size(); ++i) out.push_back(i);
    return out;
  }
  for (size_t b = 0; b < buckets; ++b) {
    const size_t begin = y.size() * b / buckets, end = y.size() * (b + 1) / buckets;
    size_t low = begin, high = begin;
    for (size_t i = begin; i < end; ++i) {
      if (!(y[i] >= y[low])) low = i;
      if (!(y[i] <= y[high])) high = i;
    }
    out.push_back(std::min(low, high));
    if (low != high) out.push_back(std::max(low, high));
  }
  return out;
}

size_t colour_of(const Series& series, size_t index) {
  return (series.colour < 0 ? index : static_cast<size_t>(series.colour)) % kNumColours;
}

// Dashes tell the lines apart where colours do not, e.g. in print.
std::string dashes_of(size_t colour) {
  static constexpr const char* kDashes[] = {"", "6 3", "2 3", "8 3 2 3"};
  const char* dash = kDashes[colour % 4];
  return *dash == 0 ? std::string() : fmt::format(" stroke-dasharray=\"{}\"", dash);
}

std::string draw_series(const PlotOptions& options, const Frame& frame, const Series& series, size_t index) {
  std::string path, dots;
  bool pen_down = false;
  const auto colour = fmt::format("var(--c{})", colour_of(series, index));
  for (const size_t i : thinned(series.y, static_cast<size_t>(options.width))) {
    if (!is_shown(options, series.x[i], series.y[i])) {
      pen_down = false;
      continue;
    }
    const auto x = coordinate(frame.x.at(series.x[i])), y = coordinate(frame.y.at(series.y[i]));
    path += fmt::format("{}{} {}", pen_down ? "L" : "M", x, y);
    if (series.dots) dots += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"3\" fill=\"{}\"/>\n", x, y, colour);
    pen_down = true;
  }
  return fmt::format("<path class=\"line\" style=\"stroke:{}\" d=\"{}\"{}/>\n", colour, path,
                     dashes_of(colour_of(series, index))) +
         dots;
}

/// Names with a piece of their line each, in rows under the title; `bottom` gets where they end.
std::string legend(const PlotOptions& options, const std::vector<Series>& series, double& bottom) {
  std::string out;
  double x = 0, y = kTitleHeight + 8;
  for (size_t i = 0; i < series.size(); ++i) {
    const auto name = shortened(series[i].name, 40);
    const double width = 28 + label_width(name) + 18;
    if (x > 0 && x + width > options.width) {
      x = 0;
      y += 18;
    }
    const auto colour = colour_of(series[i], i);
    out += fmt::format("<path class=\"line\" style=\"stroke:var(--c{})\" d=\"M{} {}h22\"{}/>\n", colour, coordinate(x),
                       coordinate(y - 4), dashes_of(colour));
    out += svg_text(x + 28, y, name, Anchor::Start);
    x += width;
  }
  bottom = y + 20;
  return out;
}

}  // namespace

std::string line_plot(const PlotOptions& options, const std::vector<Series>& series) {
  Extent x, y;
  for (const auto& s : series) {
    require(s.x.size() == s.y.size(), ErrorKind::Internal, "plot '{}', line '{}': {} x values, {} y values",
            options.title, s.name, s.x.size(), s.y.size());
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!is_shown(options, s.x[i], s.y[i])) continue;
      x.add(s.x[i]);
      y.add(s.y[i]);
    }
  }
  if (x.empty()) return "";
  double top = 0;
  const auto names = legend(options, series, top);
  const auto frame = make_frame(options, x, y, top);
  auto out = svg_open(options, options.height) + names + frame.svg;
  for (size_t i = 0; i < series.size(); ++i) out += draw_series(options, frame, series[i], i);
  return out + "</svg>\n";
}

std::string scatter_plot(const PlotOptions& options, const std::vector<Point>& points) {
  Extent x, y;
  for (const auto& p : points) {
    if (!is_shown(options, p.x, p.y)) continue;
    x.add(p.x);
    y.add(p.y);
  }
  if (x.empty()) return "";
  const auto frame = make_frame(options, x, y, kTitleHeight + 12);
  auto out = svg_open(options, options.height) + frame.svg;
  for (size_t i = 0; i < points.size(); ++i) {
    const auto& p = points[i];
    if (!is_shown(options, p.x, p.y)) continue;
    const double px = frame.x.at(p.x), py = frame.y.at(p.y);
    out += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"4.5\" fill=\"var(--c{})\"/>\n", coordinate(px), coordinate(py),
                       i % kNumColours);
    const bool fits = px + 10 + label_width(p.name) < options.width;
    out += svg_text(fits ? px + 8 : px - 8, py - 6, p.name, fits ? Anchor::Start : Anchor::End);
  }
  return out + "</svg>\n";
}

}  // namespace slmi::report
