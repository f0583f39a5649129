// Plots: where points land, ticks, thinning, and what is left out.
#include "slmi/report/plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "../../src/report/svg.h"
#include "slmi/base/error.h"

namespace slmi::report {
namespace {

size_t count(const std::string& text, const std::string& what) {
  size_t out = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++out;
  return out;
}

/// The value of an attribute in the tag that starts at `tag`.
std::string attribute(const std::string& svg, size_t tag, const std::string& name) {
  const auto begin = svg.find(" " + name + "=\"", tag) + name.size() + 3;
  return svg.substr(begin, svg.find('"', begin) - begin);
}

/// The path of the last line that was drawn: "M1 2L3 4".
std::string last_path(const std::string& svg) {
  return attribute(svg, svg.rfind("<path class=\"line\""), "d");
}

std::vector<std::pair<double, double>> points_of(const std::string& svg) {
  auto path = last_path(svg);
  for (char& c : path) c = c == 'M' || c == 'L' ? ' ' : c;
  std::istringstream in(path);
  std::vector<std::pair<double, double>> out;
  for (double x = 0, y = 0; in >> x >> y;) out.emplace_back(x, y);
  return out;
}

TEST(Ticks, AreRoundAndInside) {
  EXPECT_EQ(round_ticks(0, 100, 5).values, (std::vector<double>{0, 20, 40, 60, 80, 100}));
  EXPECT_EQ(round_ticks(0.3, 2.2, 5).step, 0.5);
  EXPECT_EQ(round_ticks(-7, 7, 7).values, (std::vector<double>{-6, -4, -2, 0, 2, 4, 6}));
  EXPECT_EQ(tick_text(0.25, 0.05), "0.25");
  EXPECT_EQ(tick_text(1500, 500), "1,500");
  EXPECT_EQ(tick_text(-123456, 1000), "-123,456");
  EXPECT_EQ(tick_text(1e-17, 0.1), "0");
  EXPECT_EQ(tick_text(2e-6, 1e-6), "2e-06");
}

TEST(LinePlot, PointsLandWhereTheAxesSay) {
  const PlotOptions options{.title = "t", .y_low = 0, .y_high = 10};
  const auto svg = line_plot(options, {{"a", {0, 50, 100}, {0, 5, 10}, true, -1}});
  const auto points = points_of(svg);
  ASSERT_EQ(points.size(), 3u);
  EXPECT_NEAR(points[1].first, (points[0].first + points[2].first) / 2, 0.1);
  EXPECT_NEAR(points[1].second, (points[0].second + points[2].second) / 2, 0.1);
  EXPECT_GT(points[0].second, points[2].second) << "y grows upwards";
  EXPECT_EQ(points[2].first, options.width - 16);
  EXPECT_EQ(count(svg, "<circle"), 3u);
}

TEST(LinePlot, LogAxisSpacesByRatio) {
  const auto svg = line_plot({.title = "t", .log_x = true}, {{"a", {0, 1, 10, 100}, {9, 1, 2, 3}, false, -1}});
  const auto points = points_of(svg);
  ASSERT_EQ(points.size(), 3u) << "x = 0 has no place on a log axis";
  EXPECT_NEAR(points[1].first - points[0].first, points[2].first - points[1].first, 0.2);
  EXPECT_GT(points[0].first, 0);
}

TEST(LinePlot, NanBreaksTheLine) {
  const auto svg = line_plot({.title = "t"}, {{"a", {0, 1, 2, 3, 4}, {1, 2, NAN, 3, 4}, false, -1}});
  const auto path = last_path(svg);
  EXPECT_EQ(count(path, "M"), 2u) << path;
  EXPECT_EQ(points_of(svg).size(), 4u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(LinePlot, LongSeriesKeepTheirExtremes) {
  Series series{"a", {}, {}, false, -1};
  for (int i = 0; i < 100000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 54321 ? 100 : i == 65432 ? -100 : std::sin(i));
  }
  const PlotOptions options{.title = "t", .y_low = -100, .y_high = 100};
  const auto svg = line_plot(options, {series});
  const auto points = points_of(svg);
  EXPECT_LE(points.size(), 2u * 640u);
  double low = 0, high = 1e9;
  for (const auto& [x, y] : points) {
    low = std::max(low, y);
    high = std::min(high, y);
  }
  EXPECT_EQ(low, options.height - 24) << "the lowest value lies on the axis";
  EXPECT_LT(high, 60) << "the highest value lies at the top";
  EXPECT_LT(svg.size(), 40000u);
}

TEST(LinePlot, NothingToShowIsNothing) {
  EXPECT_EQ(line_plot({.title = "t"}, {}), "");
  EXPECT_EQ(line_plot({.title = "t"}, {{"a", {1}, {NAN}, false, -1}}), "");
  EXPECT_NE(line_plot({.title = "t"}, {{"a", {1}, {0}, true, -1}}), "") << "a single point has axes too";
  EXPECT_THROW(line_plot({.title = "t"}, {{"a", {1, 2}, {0}, true, -1}}), Error);
}

TEST(BarPlot, LengthsAreInProportion) {
  const auto svg = bar_plot({.title = "t"}, {{"a", 25, {}, {}, "25"}, {"b", 50, 40, 60, "50"}}, 100.0);
  std::vector<double> widths;
  for (auto at = svg.find("<rect"); at != std::string::npos; at = svg.find("<rect", at + 1)) {
    widths.push_back(std::stod(attribute(svg, at, "width")));
  }
  ASSERT_EQ(widths.size(), 2u);
  EXPECT_NEAR(widths[1], 2 * widths[0], 0.2);
  EXPECT_EQ(count(svg, "class=\"whisker\""), 1u) << "only the bar that has an interval";
  EXPECT_EQ(bar_plot({.title = "t"}, {}), "");
  EXPECT_THROW(bar_plot({.title = "t"}, {{"a", NAN, {}, {}, ""}}), Error);
}

TEST(MatrixPlot, ShowsEveryCount) {
  const auto svg = matrix_plot({.title = "t"}, {"a", "b"}, {"a", "b", "<x>"}, {{5, 0, 1}, {0, 7, 0}});
  EXPECT_EQ(count(svg, "class=\"cell\""), 6u);
  EXPECT_NE(svg.find("<title>a / a: 5</title>"), std::string::npos);
  EXPECT_NE(svg.find("<title>a / &lt;x&gt;: 1</title>"), std::string::npos);
  EXPECT_EQ(count(svg, "fill-opacity=\"0.00\""), 3u);
  EXPECT_NE(svg.find("fill=\"var(--c0)\" fill-opacity=\"1.00\""), std::string::npos) << "all of row b is right";
  EXPECT_THROW(matrix_plot({.title = "t"}, {"a"}, {"a"}, {{1, 2}}), Error);
}

TEST(ScatterPlot, NamesItsPoints) {
  const auto svg = scatter_plot({.title = "t"}, {{"p & q", 1, 2}, {"r", 3, 4}, {"left out", NAN, 1}});
  EXPECT_EQ(count(svg, "<circle"), 2u);
  EXPECT_NE(svg.find(">p &amp; q</text>"), std::string::npos);
  EXPECT_EQ(svg.find("left out"), std::string::npos);
}

TEST(Labels, LongOnesAreCutAtCharacters) {
  EXPECT_EQ(shortened("abcdef", 6), "abcdef");
  EXPECT_EQ(shortened("abcdefg", 6), "abcde…");
  EXPECT_EQ(shortened("éééé", 3), "éé…");
}

}  // namespace
}  // namespace slmi::report
