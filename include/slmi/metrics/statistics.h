// The statistics beside every score: intervals, an exact paired test, and what a set of rows could have shown.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace slmi::metrics {

/// A score with its interval, low <= value <= high.
struct Estimate {
  double value = 0, low = 0, high = 0;
};

inline constexpr double kConfidence = 0.95;

/// x with P(Z <= x) = p for a standard normal Z, 0 < p < 1; by bisection and Newton steps on erfc.
/// @throws Error{Internal} outside (0, 1).
double normal_quantile(double p);

/// successes / n with Wilson's score interval (Wilson 1927, without continuity correction).
/// @throws Error{Internal} unless 0 <= successes <= n, n > 0 and 0 < confidence < 1.
Estimate wilson_interval(int64_t successes, int64_t n, double confidence = kConfidence);

/// Two-sided exact McNemar p: of lost + gained rows that changed sides, at least as lopsided a split under a fair coin,
/// min(1, 2 * P(X <= min(lost, gained))), X ~ Binomial(lost + gained, 1/2); 1 if no row changed. Stable for any counts
/// (Loader 2000, "Fast and accurate computation of binomial probabilities", for the largest term; the others by
/// ratios). @throws Error{Internal} for a negative count.
double mcnemar_p(int64_t lost, int64_t gained);

/// Quantile q in [0, 1] of values in any order: linear between order statistics at place q * (n - 1) (Hyndman & Fan
/// 1996, type 7; numpy's default). @throws Error{Internal} for no values, NaN among them, or q outside.
double quantile(std::vector<double> values, double q);
/// The same of values that are sorted already.
double quantile_of_sorted(std::span<const double> values, double q);

/// Area under the ROC curve: the chance that one of `positives` is above one of `negatives`, a tie counting half
/// (Mann-Whitney U / (n m)). Absent if either is empty. @throws Error{Internal} for NaN. Cost O((n + m) log(n + m)).
std::optional<double> auroc(std::vector<double> positives, std::vector<double> negatives);

struct BootstrapOptions {
  uint64_t seed = 0;
  int64_t resamples = 1000;
  double confidence = kConfidence;
};

/// A statistic of rows with its percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13), widened to hold the
/// value itself. `statistic` gets row indices: 0 .. n-1 for the value, then `resamples` draws of n with replacement;
/// NaN means undefined for a draw, which is then left out. Serial, and deterministic for a seed.
/// Absent if the value itself is undefined. @throws Error{Internal} if n or resamples is not positive.
std::optional<Estimate> bootstrap(int64_t n, const BootstrapOptions& options,
                                  const std::function<double(std::span<const int64_t> rows)>& statistic);

inline constexpr double kSignificance = 0.05;

/// The smallest drop (in 0..1 of n rows) that the exact test would have called significant, had as many rows changed
/// sides as did: (lost - gained) / n of the least lopsided split of `discordant` rows with p <= significance. Where so
/// few rows changed that no split of them is significant, the fewest that are, all lost, count instead (6 for 0.05).
/// Absent if n is smaller than that. @throws Error{Internal} unless 0 <= discordant <= n and 0 < significance < 1.
std::optional<double> smallest_drop(int64_t n, int64_t discordant, double significance = kSignificance);

/// One row answered by two systems.
struct PairedRow {
  std::string id;
  bool reference_right = false, right = false;
};

enum class Flip { Lost, Gained };  // the reference had it right and this system has it wrong, or the other way round

struct FlippedRow {
  std::string id;
  Flip flip = Flip::Lost;
};

/// A system against a reference, on the rows that both answered.
struct Comparison {
  std::string reference;
  int64_t n_both = 0, lost = 0, gained = 0;
  double p = 1;                         // mcnemar_p
  std::optional<double> smallest_drop;  // see the function
  std::vector<FlippedRow> flipped;      // in the order of the rows
};

Comparison compare_paired(std::string reference, std::span<const PairedRow> rows);

}  // namespace slmi::metrics
