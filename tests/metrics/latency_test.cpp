// Latency quantiles against values worked out by hand.
#include "slmi/metrics/latency.h"

#include <gtest/gtest.h>

namespace slmi::metrics {
namespace {

TEST(Latency, TpotIsTheMeanGapAfterTheFirstToken) {
  EXPECT_DOUBLE_EQ(tpot_ms({40, 100, 4}).value(), 20);
  EXPECT_DOUBLE_EQ(tpot_ms({40, 55, 2}).value(), 15);
  EXPECT_FALSE(tpot_ms({40, 40, 1}).has_value());
  EXPECT_FALSE(tpot_ms({40, 40, 0}).has_value());
}

TEST(Latency, QuantilesOfElevenSamples) {
  // 0, 10, ..., 100 out of order: place q * 10 in the sorted list.
  const auto got = latency_quantiles({100, 0, 90, 10, 80, 20, 70, 30, 60, 40, 50});
  EXPECT_EQ(got.n, 11);
  EXPECT_DOUBLE_EQ(got.p50.value(), 50);
  EXPECT_DOUBLE_EQ(got.p90.value(), 90);
  EXPECT_DOUBLE_EQ(got.p95.value(), 95);
  EXPECT_DOUBLE_EQ(got.mean.value(), 50);
  EXPECT_FALSE(got.p99.has_value());
}

TEST(Latency, P99FromAThousandRequestsOn) {
  std::vector<double> samples;
  for (int i = 0; i < 999; ++i) samples.push_back(i);
  EXPECT_FALSE(latency_quantiles(samples).p99.has_value());
  samples.push_back(999);
  EXPECT_DOUBLE_EQ(latency_quantiles(samples).p99.value(), 989.01);  // place 0.99 * 999
}

TEST(Latency, NoSamples) {
  const auto got = latency_quantiles({});
  EXPECT_EQ(got.n, 0);
  EXPECT_FALSE(got.p50 || got.p90 || got.p95 || got.p99 || got.mean);
}

TEST(Latency, RequestsOfOneTokenHaveNoTpot) {
  const std::vector<RequestLatency> requests = {{10, 10, 1}, {20, 50, 4}, {30, 70, 3}};
  const auto got = summarize_latency(requests);
  EXPECT_EQ(got.ttft.n, 3);
  EXPECT_EQ(got.tpot.n, 2);
  EXPECT_DOUBLE_EQ(got.ttft.mean.value(), 20);
  EXPECT_DOUBLE_EQ(got.tpot.p50.value(), 15);  // of 10 and 20
  EXPECT_DOUBLE_EQ(got.e2e.p50.value(), 50);
}

}  // namespace
}  // namespace slmi::metrics
