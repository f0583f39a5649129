// Speed, memory and identity of a model's report; see the header.
#include "speed.h"

#include "slmi/base/error.h"
#include "slmi/metrics/latency.h"

namespace slmi::eval {
namespace {

report::Quantiles quantiles(std::vector<double> samples_ms) {
  const metrics::LatencyQuantiles q = metrics::latency_quantiles(std::move(samples_ms));
  return {q.p50, q.p90, q.p95, q.p99};
}

}  // namespace

void describe_model(const ModelRun& run, report::ModelReport& out) {
  const ModelFacts& f = run.facts;
  out.base = f.base;
  out.base_sha256 = f.base_sha256;
  out.weights = f.weights == "random" ? report::Weights::Random : report::Weights::Real;
  out.base_format = f.base_format;
  out.compute = f.compute;
  out.engine = f.engine;
  out.template_name = f.template_name;
  out.template_sha256 = f.template_sha256;
  out.tokenizer_sha256 = f.tokenizer_sha256;
  out.prefix_cache = f.prefix_cache;

  std::vector<double> ttft, tpot, e2e;
  for (const auto& request : run.speed.requests) {
    ttft.push_back(request.ttft);
    e2e.push_back(request.e2e);
    if (request.tpot) tpot.push_back(*request.tpot);
  }
  out.latency_ms = {quantiles(ttft), quantiles(tpot), quantiles(e2e)};
  out.e2e_samples_ms = std::move(e2e);
  out.prefill_tokens_per_s = run.speed.prefill_tokens_per_s;
  out.decode_tokens_per_s = run.speed.decode_tokens_per_s;
  for (const auto& [batch, rate] : run.speed.requests_per_s)
    out.requests_per_s.emplace_back(std::to_string(batch), rate);
  if (run.speed.accuracy_energy_j && run.speed.accuracy_rows > 0)
    out.joules_per_request = *run.speed.accuracy_energy_j / static_cast<double>(run.speed.accuracy_rows);
  out.load_s = run.speed.load_s;
  if (!run.speed.requests.empty()) out.first_request_ms = run.speed.first_request_ms;
  out.rss_anon_bytes = run.rss_anon_bytes;
  out.rss_file_bytes = run.rss_file_bytes;
  out.rss_peak_bytes = run.rss_peak_bytes;
  out.vram_allocator_bytes = run.vram_allocator_bytes;
  out.vram_device_bytes = run.vram_device_bytes;
  if (!f.answer_form.empty())
    out.notes.push_back(
        fmt::format("answers are held to the form of the training answers, {}; {} of {} would have left it "
                    "(--no-answer-form lets them)",
                    f.answer_form, run.held, run.speed.accuracy_rows));
  out.notes.push_back(
      fmt::format("base {}: fingerprint {:.12}; weights {}", f.base, f.base_fingerprint,
                  f.weights.empty() ? "as given: its files do not say where they come from" : f.weights));
  out.notes.push_back(fmt::format("answers of at most {} tokens; all rows in {:.1f} s, {} at once", f.max_new_tokens,
                                  run.speed.accuracy_s, run.speed.accuracy_batch));
  if (out.joules_per_request)
    out.notes.push_back(fmt::format("energy: {:.1f} J for all rows by {}; what else ran on the machine counts too",
                                    *run.speed.accuracy_energy_j, run.speed.energy_sources));
}

}  // namespace slmi::eval
