// Latency quantiles; see the header.
#include "slmi/metrics/latency.h"

#include <algorithm>
#include <numeric>

#include "slmi/metrics/statistics.h"

namespace slmi::metrics {

std::optional<double> tpot_ms(const RequestLatency& request) {
  if (request.output_tokens < 2) return std::nullopt;
  return (request.e2e_ms - request.ttft_ms) / static_cast<double>(request.output_tokens - 1);
}

LatencyQuantiles latency_quantiles(std::vector<double> samples_ms) {
  LatencyQuantiles out;
  out.n = static_cast<int64_t>(samples_ms.size());
  if (samples_ms.empty()) return out;
  std::sort(samples_ms.begin(), samples_ms.end());
  out.p50 = quantile_of_sorted(samples_ms, 0.5);
  out.p90 = quantile_of_sorted(samples_ms, 0.9);
  out.p95 = quantile_of_sorted(samples_ms, 0.95);
  if (out.n >= kRequestsForP99) out.p99 = quantile_of_sorted(samples_ms, 0.99);
  out.mean = std::accumulate(samples_ms.begin(), samples_ms.end(), 0.0) / static_cast<double>(out.n);
  return out;
}

LatencySummary summarize_latency(std::span<const RequestLatency> requests) {
  std::vector<double> ttft, tpot, e2e;
  for (const auto& request : requests) {
    ttft.push_back(request.ttft_ms);
    e2e.push_back(request.e2e_ms);
    if (const auto value = tpot_ms(request)) tpot.push_back(*value);
  }
  return {latency_quantiles(std::move(ttft)), latency_quantiles(std::move(tpot)), latency_quantiles(std::move(e2e))};
}

}  // namespace slmi::metrics
