// Latency of requests: the few numbers that stand for many samples.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace slmi::metrics {

/// One request, milliseconds.
struct RequestLatency {
  double ttft_ms = 0;         // request sent to first token
  double e2e_ms = 0;          // request sent to last token
  int64_t output_tokens = 0;  // the first one included
};

/// Time per output token after the first: (e2e - ttft) / (output tokens - 1). Absent for fewer than two tokens.
std::optional<double> tpot_ms(const RequestLatency& request);

/// p99 of fewer samples than this is a matter of a handful of requests, and is not given.
inline constexpr int64_t kRequestsForP99 = 1000;

/// Quantiles as metrics::quantile defines them; all absent without samples.
struct LatencyQuantiles {
  int64_t n = 0;
  std::optional<double> p50, p90, p95, p99, mean;
};
LatencyQuantiles latency_quantiles(std::vector<double> samples_ms);

struct LatencySummary {
  LatencyQuantiles ttft, tpot, e2e;  // tpot of the requests that have one
};
LatencySummary summarize_latency(std::span<const RequestLatency> requests);

}  // namespace slmi::metrics
