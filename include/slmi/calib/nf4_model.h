// A model's projections in NF4, as bitsandbytes and transformers load them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "slmi/calib/weight_source.h"
#include "slmi/formats/provenance.h"
#include "slmi/quant/nf4.h"

namespace slmi::calib {

struct Nf4ModelOptions {
  quant::Nf4Scales scales = quant::Nf4Scales::Double;
  at::Device device = at::kCPU;  // what quantizes: the files are the same
  uint64_t max_shard_bytes = 5'000'000'000;
  std::string tokenizer;                                      // as OpenOptions: "": the base's
  std::function<void(int64_t done, int64_t total)> progress;  // matrices; may be empty
};

struct Nf4ModelResult {
  int64_t matrices = 0;
  uint64_t weight_bytes = 0;  // of the files written
};

/// Writes `out`: projections in NF4 (blocks of 64), embedding, norms and an untied head as bf16 (norms as f32 where
/// bf16 cannot hold them), config.json with bitsandbytes' quantization_config, tokenizer files, template and slmi.json.
/// The NF4 form of the whole model is in memory at once.
/// @throws Error{Usage} for an `out` that holds other files, Error{Numeric} naming a matrix that holds NaN or infinity,
///         Error{Output}. After an error `out` is as it was (model::UnfinishedModel).
Nf4ModelResult write_nf4_model(const model::ModelFiles& files, const WeightSource& weights,
                               const formats::Provenance& provenance, const std::filesystem::path& out,
                               const Nf4ModelOptions& options);

}  // namespace slmi::calib
