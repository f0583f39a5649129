// Roofs of measured cells, and predictions; see the header.
#include "roofs.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "cell_store.h"
#include "slmi/base/error.h"
#include "slmi/ceilings/hardware.h"
#include "slmi/formats/checkpoint.h"

namespace slmi::study {
namespace {

namespace fs = std::filesystem;

/// Of a device's memory, weights may take so much: the rest is for keys, values and activations.
constexpr double kMemoryForWeights = 0.9;

/// The rate that products of this type run at; of a type without units of its own, f32's.
double rate_of(const ceilings::Ceilings& limits, const std::string& compute) {
  for (const auto& [name, rate] : ceilings::kRates)
    if (compute == name && limits.*rate) return *(limits.*rate);
  return limits.f32_gflops.value_or(0.0);
}

ceilings::RoofTimes times_of(const RequestWork& work, const ceilings::Ceilings& limits, const std::string& compute) {
  return ceilings::roof(work.model, limits.read_gb_per_s, rate_of(limits, compute), work.prompt_tokens,
                        work.answer_tokens, /*batch=*/1);
}

/// The type that hardware would compute in: 16 bits where it is fast in them.
std::string compute_on(const ceilings::Ceilings& limits) {
  return limits.bf16_gflops ? "bf16" : limits.f16_gflops ? "f16" : "f32";
}

}  // namespace

ceilings::Ceilings ceilings_of(const std::string& device, int64_t threads, const fs::path& file, const Json& key) {
  if (const auto known = stored_in(file, key, "ceilings")) return ceilings::ceilings_from_json(*known, file.string());
  const int before = at::get_num_threads();
  at::set_num_threads(static_cast<int>(threads));
  const auto measured =
      ceilings::measure_ceilings(device == "cpu" ? at::Device(at::kCPU) : at::Device(at::kCUDA, 0), {});
  at::set_num_threads(before);
  store_in(file, key, "ceilings", ceilings::to_json(measured));
  return measured;
}

report::CeilingReport describe(const ceilings::Ceilings& limits, const std::string& device, int64_t threads) {
  return {device, threads, limits.read_gb_per_s, limits.f32_gflops, limits.bf16_gflops, limits.f16_gflops};
}

RequestWork work_of(const fs::path& artefact, const eval::ModelRun& run) {
  ceilings::WeightBits bits;
  bits.kv = run.facts.compute == "f32" ? 32.0 : 16.0;
  RequestWork work;
  work.model = ceilings::model_work(*formats::Checkpoint::open(artefact), bits);
  work.prompt_tokens = std::max<int64_t>(1, std::llround(run.speed.prompt_tokens));
  work.answer_tokens = std::max<int64_t>(1, std::llround(run.speed.answer_tokens));
  work.compute = run.facts.compute;
  return work;
}

report::RoofReport roof_of(const RequestWork& work, const ceilings::Ceilings& limits) {
  const auto times = times_of(work, limits, work.compute);
  return {times.ttft_ms, times.tpot_ms, times.e2e_ms, times.prefill_bound_by, times.decode_bound_by};
}

std::vector<report::StudyPrediction> predictions_of(const std::string& model, const std::string& format,
                                                    const RequestWork& work, int64_t file_bytes,
                                                    const std::vector<std::string>& hardware) {
  std::vector<report::StudyPrediction> out;
  for (const auto& name : hardware) {
    const auto machine = ceilings::named_hardware(name);
    const auto limits = ceilings::predicted_ceilings(machine);
    report::StudyPrediction p{model, format, std::string(machine.name), {}, {}, {}, {}};
    if (static_cast<double>(file_bytes) > kMemoryForWeights * machine.memory_gb * 1e9) {
      p.problem = fmt::format("does not fit {:g} GB", machine.memory_gb);
    } else {
      const auto times = times_of(work, limits, compute_on(limits));
      p.ttft = times.ttft_ms;
      p.tpot = times.tpot_ms;
      p.e2e = times.e2e_ms;
    }
    out.push_back(std::move(p));
  }
  return out;
}

}  // namespace slmi::study
