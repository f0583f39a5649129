// Intervals, tests and quantiles against scipy, numpy, exact fractions (make_golden.py) and closed forms.
#include "slmi/metrics/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../base/expect_error.h"
#include "slmi/base/json.h"
#include "slmi/base/random.h"

namespace slmi::metrics {
namespace {

const Json& golden() {
  static const Json value = read_json_file(SLMI_SOURCE_DIR "/tests/metrics/golden/statistics.json");
  return value;
}

void expect_close(double got, double want, double relative) {
  EXPECT_LE(std::abs(got - want), relative * std::abs(want) + 1e-300) << "got " << got << ", want " << want;
}

TEST(Statistics, WilsonEqualsScipy) {
  ASSERT_EQ(golden().at("wilson").size(), 9u);
  for (const auto& item : golden().at("wilson")) {
    SCOPED_TRACE(item.dump());
    const auto got = wilson_interval(item[0], item[1], item[2]);
    EXPECT_DOUBLE_EQ(got.value, item[0].get<double>() / item[1].get<double>());
    EXPECT_NEAR(got.low, item[3].get<double>(), 1e-13);
    EXPECT_NEAR(got.high, item[4].get<double>(), 1e-13);
  }
}

TEST(Statistics, WilsonClosedForms) {
  // 0 of n: high = z^2 / (n + z^2); n of n: low = n / (n + z^2).
  const double z2 = 1.959963984540054 * 1.959963984540054;
  EXPECT_EQ(wilson_interval(0, 10).low, 0);
  EXPECT_NEAR(wilson_interval(0, 10).high, z2 / (10 + z2), 1e-14);
  EXPECT_NEAR(wilson_interval(10, 10).low, 10 / (10 + z2), 1e-14);
  EXPECT_EQ(wilson_interval(10, 10).high, 1);
  SLMI_EXPECT_ERROR(Internal, "3 of 2", wilson_interval(3, 2));
  SLMI_EXPECT_ERROR(Internal, "0 of 0", wilson_interval(0, 0));
}

TEST(Statistics, NormalQuantileEqualsScipy) {
  for (const auto& item : golden().at("normal")) {
    SCOPED_TRACE(item.dump());
    EXPECT_NEAR(normal_quantile(item[0]), item[1].get<double>(), 1e-13 * (1 + std::abs(item[1].get<double>())));
  }
  SLMI_EXPECT_ERROR(Internal, "p = 1", normal_quantile(1));
}

TEST(Statistics, McNemarEqualsExactFractions) {
  ASSERT_EQ(golden().at("mcnemar").size(), 16u);
  for (const auto& item : golden().at("mcnemar")) {
    SCOPED_TRACE(item.dump());
    // 1e-11: Loader's probability is good to 1e-13 or so, ratios add a rounding a term.
    expect_close(mcnemar_p(item[0], item[1]), item[2], 1e-11);
    EXPECT_EQ(mcnemar_p(item[0], item[1]), mcnemar_p(item[1], item[0]));
  }
}

TEST(Statistics, McNemarByHand) {
  EXPECT_EQ(mcnemar_p(0, 0), 1);
  EXPECT_EQ(mcnemar_p(4, 4), 1);
  EXPECT_EQ(mcnemar_p(4, 5), 1);                         // P(X <= 4 of 9) = 1/2
  EXPECT_NEAR(mcnemar_p(5, 0), 2.0 / 32, 1e-16);         // 2 * 2^-5
  EXPECT_NEAR(mcnemar_p(1, 6), 2 * 8.0 / 128, 1e-15);    // 1 + 7 of 2^7
  EXPECT_NEAR(mcnemar_p(2, 8), 2 * 56.0 / 1024, 1e-15);  // 1 + 10 + 45
  EXPECT_NEAR(mcnemar_p(0, 1000), 0x1p-999, 1e-12 * 0x1p-999);
  EXPECT_EQ(mcnemar_p(0, 100000), 0);                   // far below the smallest double
  const double huge = mcnemar_p(499000000, 501000000);  // z = 63.2: about 2 * Phi(-63.2)
  EXPECT_GE(huge, 0);
  EXPECT_LT(huge, 1e-300);
  EXPECT_NEAR(mcnemar_p(499990000, 500010000), std::erfc(19999 / std::sqrt(2e9)), 1e-8);  // normal, continuity
  SLMI_EXPECT_ERROR(Internal, "-1 lost", mcnemar_p(-1, 0));
}

TEST(Statistics, QuantileEqualsNumpy) {
  const auto values = golden().at("values").get<std::vector<double>>();
  for (const auto& item : golden().at("quantiles")) {
    SCOPED_TRACE(item.dump());
    EXPECT_NEAR(quantile(values, item[0]), item[1].get<double>(), 1e-14);
  }
  EXPECT_EQ(quantile({4}, 0.9), 4);
  EXPECT_DOUBLE_EQ(quantile({10, 0}, 0.25), 2.5);
  SLMI_EXPECT_ERROR(Internal, "0 values", quantile({}, 0.5));
  SLMI_EXPECT_ERROR(Internal, "NaN", quantile({1, NAN}, 0.5));
}

TEST(Statistics, BootstrapOfAMeanIsTheNormalInterval) {
  // 400 rows, half of them 1: the mean's standard error is 0.025, its 95 % interval 0.5 +- 0.049. The interval's ends
  // scatter by about 0.0017 (2,000 resamples), so 0.008 is more than four of that.
  const auto mean = [](std::span<const int64_t> rows) {
    double sum = 0;
    for (const int64_t row : rows) sum += row % 2 == 0 ? 1 : 0;
    return sum / static_cast<double>(rows.size());
  };
  const auto got = bootstrap(400, {7, 2000, 0.95}, mean).value();
  EXPECT_DOUBLE_EQ(got.value, 0.5);
  EXPECT_NEAR(got.low, 0.451, 0.008);
  EXPECT_NEAR(got.high, 0.549, 0.008);
  const auto again = bootstrap(400, {7, 2000, 0.95}, mean).value();
  EXPECT_EQ(got.low, again.low);
  EXPECT_EQ(got.high, again.high);
  EXPECT_LT(bootstrap(400, {7, 2000, 0.5}, mean)->high, got.high);
}

TEST(Statistics, BootstrapDrawsWithReplacementAndSkipsUndefinedDraws) {
  int64_t calls = 0;
  bool repeated = false;
  const auto got = bootstrap(3, {1, 200, 0.95}, [&](std::span<const int64_t> rows) {
    ++calls;
    for (const int64_t row : rows) EXPECT_TRUE(row >= 0 && row < 3);
    const bool same = rows[0] == rows[1] || rows[1] == rows[2] || rows[0] == rows[2];
    repeated = repeated || same;
    return same ? NAN : 4.0 + static_cast<double>(rows[0]);
  });
  EXPECT_EQ(calls, 201);
  EXPECT_TRUE(repeated);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->value, 4);
  EXPECT_EQ(got->low, 4);  // some 44 draws are left, a third of them with each of 4, 5, 6
  EXPECT_EQ(got->high, 6);
  EXPECT_FALSE(bootstrap(3, {}, [](std::span<const int64_t>) { return NAN; }).has_value());
  SLMI_EXPECT_ERROR(Internal, "0 rows", bootstrap(0, {}, [](std::span<const int64_t>) { return 1.0; }));
}

TEST(Statistics, SmallestDropEqualsTryingEverySplit) {
  ASSERT_EQ(golden().at("smallest_drop").size(), 9u);
  for (const auto& item : golden().at("smallest_drop")) {
    SCOPED_TRACE(item.dump());
    const auto got = smallest_drop(item[0], item[1]);
    ASSERT_EQ(got.has_value(), !item[2].is_null());
    if (got) {
      EXPECT_DOUBLE_EQ(*got, item[2].get<double>());
    }
  }
}

TEST(Statistics, SmallestDropByHand) {
  EXPECT_FALSE(smallest_drop(5, 5).has_value());                     // 2 / 32 > 0.05
  EXPECT_DOUBLE_EQ(smallest_drop(600, 2).value(), 0.01);             // six rows lost, none gained: 2 / 64
  EXPECT_DOUBLE_EQ(smallest_drop(700, 10).value(), 8.0 / 700);       // 9 to 1: 22 / 1024; 8 to 2 is 0.109
  EXPECT_DOUBLE_EQ(smallest_drop(700, 10, 0.2).value(), 6.0 / 700);  // 8 to 2
  SLMI_EXPECT_ERROR(Internal, "3 of 2 rows", smallest_drop(2, 3));
}

TEST(Statistics, AurocEqualsCountingPairs) {
  EXPECT_DOUBLE_EQ(auroc({3, 4}, {1, 2}).value(), 1.0);
  EXPECT_DOUBLE_EQ(auroc({1, 2}, {3, 4}).value(), 0.0);
  EXPECT_DOUBLE_EQ(auroc({1, 1, 1}, {1, 1}).value(), 0.5);
  EXPECT_DOUBLE_EQ(auroc({0.8, 0.4}, {0.6, 0.4, 0.1}).value(), 4.5 / 6);  // 3 won; 1 won, a tie, one lost
  EXPECT_FALSE(auroc({}, {1}).has_value());
  EXPECT_FALSE(auroc({1}, {}).has_value());
  SLMI_EXPECT_ERROR(Internal, "NaN", auroc({std::nan("")}, {1}));
  slmi::Random random(5);
  std::vector<double> positives, negatives;
  for (int i = 0; i < 60; ++i) positives.push_back(static_cast<double>(random.below(20)) + 3);
  for (int i = 0; i < 90; ++i) negatives.push_back(static_cast<double>(random.below(20)));
  double won = 0;
  for (const double p : positives)
    for (const double n : negatives) won += p > n ? 1.0 : p == n ? 0.5 : 0.0;
  EXPECT_NEAR(auroc(positives, negatives).value(), won / 5400, 1e-15);
}

TEST(Statistics, ComparePaired) {
  std::vector<PairedRow> rows = {{"a", true, true}, {"b", true, false}, {"c", false, true}, {"d", false, false}};
  for (int i = 0; i < 8; ++i) rows.push_back({fmt::format("e{}", i), true, false});
  const auto got = compare_paired("base", rows);
  EXPECT_EQ(got.reference, "base");
  EXPECT_EQ(got.n_both, 12);
  EXPECT_EQ(got.lost, 9);
  EXPECT_EQ(got.gained, 1);
  EXPECT_NEAR(got.p, 22.0 / 1024, 1e-15);
  EXPECT_DOUBLE_EQ(got.smallest_drop.value(), 8.0 / 12);
  ASSERT_EQ(got.flipped.size(), 10u);
  EXPECT_EQ(got.flipped[0].id, "b");
  EXPECT_EQ(got.flipped[0].flip, Flip::Lost);
  EXPECT_EQ(got.flipped[1].id, "c");
  EXPECT_EQ(got.flipped[1].flip, Flip::Gained);
  const auto none = compare_paired("base", {});
  EXPECT_EQ(none.n_both, 0);
  EXPECT_EQ(none.p, 1);
  EXPECT_FALSE(none.smallest_drop.has_value());
}

}  // namespace
}  // namespace slmi::metrics
