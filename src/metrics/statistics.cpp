// Intervals and tests; see the header.
#include "slmi/metrics/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "slmi/base/error.h"
#include "slmi/base/random.h"

namespace slmi::metrics {
namespace {

/// log(n!) - [0.5 log(2 pi n) + n log n - n]: Stirling's error (Loader 2000). Exact factorials below 16, where the
/// series would lose digits.
double stirling_error(double n) {
  constexpr double kSeriesFrom = 16;
  if (n < kSeriesFrom) {
    double factorial = 1;
    for (double i = 2; i <= n; ++i) factorial *= i;
    return std::log(factorial) - (0.5 * std::log(2 * std::numbers::pi * n) + n * std::log(n) - n);
  }
  const double m = 1 / (n * n);
  return (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - (1.0 / 1680 - 1.0 / 1188 * m) * m) * m) * m) / n;
}

/// x log(x / m) + m - x without cancellation near x = m (Loader's bd0).
double deviance(double x, double m) {
  if (std::abs(x - m) >= 0.1 * (x + m)) return x * std::log(x / m) + m - x;
  const double v = (x - m) / (x + m);
  double sum = (x - m) * v;
  double power = 2 * x * v;
  for (int i = 1; i < 1000; ++i) {
    power *= v * v;
    const double next = sum + power / (2 * i + 1);
    if (next == sum) break;
    sum = next;
  }
  return sum;
}

/// P(X = k), X ~ Binomial(n, 1/2), 0 <= k <= n.
double fair_coin_probability(int64_t k, int64_t n) {
  if (k == 0 || k == n) return std::exp(-static_cast<double>(n) * std::numbers::ln2);
  const auto x = static_cast<double>(k), all = static_cast<double>(n), rest = static_cast<double>(n - k);
  const double exponent =
      stirling_error(all) - stirling_error(x) - stirling_error(rest) - deviance(x, all / 2) - deviance(rest, all / 2);
  return std::exp(exponent) * std::sqrt(all / (2 * std::numbers::pi * x * rest));
}

}  // namespace

double normal_quantile(double p) {
  require(p > 0 && p < 1, ErrorKind::Internal, "normal_quantile: p = {}; expected inside (0, 1)", p);
  // Bisection to a few digits, then Newton: plain, and fast enough for a few calls a report.
  double low = -40, high = 40;
  const auto below = [](double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); };
  for (int i = 0; i < 30; ++i) {
    const double middle = (low + high) / 2;
    (below(middle) < p ? low : high) = middle;
  }
  double x = (low + high) / 2;
  for (int i = 0; i < 3; ++i) {
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    if (density == 0) break;
    x -= (below(x) - p) / density;
  }
  return x;
}

Estimate wilson_interval(int64_t successes, int64_t n, double confidence) {
  require(n > 0 && successes >= 0 && successes <= n, ErrorKind::Internal, "wilson_interval: {} of {}", successes, n);
  require(confidence > 0 && confidence < 1, ErrorKind::Internal, "wilson_interval: confidence {}", confidence);
  const double z = normal_quantile(0.5 + confidence / 2);
  const auto all = static_cast<double>(n);
  const double share = static_cast<double>(successes) / all;
  const double scale = 1 + z * z / all;
  const double centre = (share + z * z / (2 * all)) / scale;
  const double half = z / scale * std::sqrt(share * (1 - share) / all + z * z / (4 * all * all));
  // At the ends the bound is exactly 0 or 1; rounding must not push it off.
  const double low = successes == 0 ? 0.0 : std::max(0.0, centre - half);
  const double high = successes == n ? 1.0 : std::min(1.0, centre + half);
  return {share, low, high};
}

double mcnemar_p(int64_t lost, int64_t gained) {
  require(lost >= 0 && gained >= 0, ErrorKind::Internal, "mcnemar_p: {} lost, {} gained", lost, gained);
  const int64_t n = lost + gained, k = std::min(lost, gained);
  if (2 * k >= n - 1) return 1;  // the tail is at least a half
  const double largest = fair_coin_probability(k, n);
  double term = 1, sum = 1;  // in units of the largest
  for (int64_t i = k; i > 0; --i) {
    term *= static_cast<double>(i) / static_cast<double>(n - i + 1);
    if (sum + term == sum) break;
    sum += term;
  }
  return std::min(1.0, 2 * largest * sum);
}

double quantile_of_sorted(std::span<const double> values, double q) {
  require(!values.empty() && q >= 0 && q <= 1, ErrorKind::Internal, "quantile: {} values, q = {}", values.size(), q);
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

double quantile(std::vector<double> values, double q) {
  for (const double value : values) require(!std::isnan(value), ErrorKind::Internal, "quantile: NaN among the values");
  std::sort(values.begin(), values.end());
  return quantile_of_sorted(values, q);
}

std::optional<double> auroc(std::vector<double> positives, std::vector<double> negatives) {
  for (const auto* list : {&positives, &negatives})
    for (const double value : *list) require(!std::isnan(value), ErrorKind::Internal, "auroc: NaN among the values");
  if (positives.empty() || negatives.empty()) return std::nullopt;
  std::sort(negatives.begin(), negatives.end());
  int64_t twice = 0;  // 2 U: pairs won count 2, ties 1
  for (const double value : positives) {
    const auto [low, high] = std::equal_range(negatives.begin(), negatives.end(), value);
    twice += (low - negatives.begin()) + (high - negatives.begin());
  }
  return static_cast<double>(twice) / 2 / static_cast<double>(positives.size()) / static_cast<double>(negatives.size());
}

std::optional<Estimate> bootstrap(int64_t n, const BootstrapOptions& options,
                                  const std::function<double(std::span<const int64_t> rows)>& statistic) {
  require(n > 0 && options.resamples > 0, ErrorKind::Internal, "bootstrap: {} rows, {} resamples", n,
          options.resamples);
  std::vector<int64_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), int64_t{0});
  const double value = statistic(rows);
  if (std::isnan(value)) return std::nullopt;
  Random random(options.seed);
  std::vector<double> draws;
  for (int64_t i = 0; i < options.resamples; ++i) {
    for (auto& row : rows) row = static_cast<int64_t>(random.below(static_cast<uint64_t>(n)));
    const double draw = statistic(rows);
    if (!std::isnan(draw)) draws.push_back(draw);
  }
  if (draws.empty()) return Estimate{value, value, value};
  std::sort(draws.begin(), draws.end());
  const double tail = (1 - options.confidence) / 2;
  return Estimate{value, std::min(value, quantile_of_sorted(draws, tail)),
                  std::max(value, quantile_of_sorted(draws, 1 - tail))};
}

std::optional<double> smallest_drop(int64_t n, int64_t discordant, double significance) {
  require(discordant >= 0 && discordant <= n, ErrorKind::Internal, "smallest_drop: {} of {} rows changed", discordant,
          n);
  require(significance > 0 && significance < 1, ErrorKind::Internal, "smallest_drop: significance {}", significance);
  int64_t changed = discordant;
  while (changed <= n && mcnemar_p(changed, 0) > significance) ++changed;  // 2^(1 - changed): few steps
  if (changed > n) return std::nullopt;
  // p falls as the split grows more lopsided: the first significant `lost` by bisection.
  int64_t low = (changed + 1) / 2, high = changed;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (mcnemar_p(middle, changed - middle) <= significance)
      high = middle;
    else
      low = middle + 1;
  }
  return static_cast<double>(2 * low - changed) / static_cast<double>(n);
}

Comparison compare_paired(std::string reference, std::span<const PairedRow> rows) {
  Comparison out;
  out.reference = std::move(reference);
  out.n_both = static_cast<int64_t>(rows.size());
  for (const auto& row : rows) {
    if (row.reference_right == row.right) continue;
    ++(row.right ? out.gained : out.lost);
    out.flipped.push_back({row.id, row.right ? Flip::Gained : Flip::Lost});
  }
  out.p = mcnemar_p(out.lost, out.gained);
  out.smallest_drop = smallest_drop(out.n_both, out.lost + out.gained);
  return out;
}

}  // namespace slmi::metrics
