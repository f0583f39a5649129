// Shared by the model tests: golden values of transformers and PEFT, and small batches.
#pragma once

#include <ATen/ATen.h>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/model/batch.h"
#include "slmi/model/llama.h"

namespace slmi::model::testing {

inline std::string golden_dir() {
  return std::string(SLMI_SOURCE_DIR) + "/tests/model/golden";
}

inline const Json& golden() {
  static const Json values = read_json_file(golden_dir() + "/golden.json");
  return values;
}

/// The generator of make_golden.py: both sides draw the same token ids.
inline std::vector<int32_t> tokens(int64_t n, int64_t vocab, uint64_t seed) {
  std::vector<int32_t> out;
  uint64_t state = seed;
  for (int64_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    out.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab)));
  }
  return out;
}

inline std::shared_ptr<Llama> load(const std::string& path, const LoadOptions& options = {}) {
  return Llama::load(*formats::Checkpoint::open(path), options);
}

/// Context of one whole sequence at positions 0 .. n-1, without a cache.
inline ForwardContext single(Llama& llama, int64_t n) {
  llama.reserve_positions(n);
  ForwardContext context;
  context.positions = at::arange(n, at::kInt).to(llama.device());
  context.plan = ops::AttentionPlan({{0, n, 0, 0, 0, n}}, llama.device());
  return context;
}

inline at::Tensor logits_of(Llama& llama, const std::vector<int32_t>& ids) {
  const auto n = static_cast<int64_t>(ids.size());
  return llama.head(llama.forward(at::tensor(ids, at::kInt).to(llama.device()), single(llama, n)));
}

/// max |a - b| / max |b|: the house's relative error of tensors.
inline double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs().max() / b.to(at::kDouble).abs().max()).item<double>();
}

/// A row of a hand-made batch: ids of prompt and target; the first `prefix` ids may be shared.
struct TestRow {
  std::vector<int32_t> ids;
  int64_t target_begin = 0, prefix = 0;
};

inline data::EncodedDataset dataset(const std::vector<TestRow>& rows) {
  std::vector<data::EncodedDataset::Encoded> encoded;
  for (const auto& r : rows) encoded.push_back({r.ids, r.target_begin, r.prefix});
  return data::EncodedDataset::from_ids(std::move(encoded), {});
}

inline std::optional<std::string> smollm2_path() {
  const char* path = std::getenv("SLMI_SMOLLM2_GGUF");
  return path != nullptr ? std::optional<std::string>(path) : std::nullopt;
}

}  // namespace slmi::model::testing

#define SLMI_REQUIRE_SMOLLM2()               \
  if (!slmi::model::testing::smollm2_path()) \
  GTEST_SKIP() << "SLMI_SMOLLM2_GGUF names no file: SmolLM2's weights are needed"
