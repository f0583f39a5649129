// GPTQ for a whole model: layer by layer, each calibrated on what the quantized layers before it give.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/calib/calibration_rows.h"
#include "slmi/calib/gptq_solver.h"
#include "slmi/calib/layer_options.h"
#include "slmi/calib/weight_source.h"
#include "slmi/formats/provenance.h"
#include "slmi/model/open.h"

namespace slmi::calib {

struct QuantizeOptions : LayerOptions {
  GptqOptions gptq;
  uint64_t max_shard_bytes = 5'000'000'000;
  std::string tokenizer;  // as OpenOptions: "": the base's
};

struct QuantizeResult {
  std::vector<ModuleReport> modules;
  int64_t resumed_layers = 0;
  uint64_t weight_bytes = 0;  // of the files written
};

/// The largest of 128, 64 and 32 that divides every row of the model's projections.
/// @throws Error{Usage} naming the rows if none does.
int64_t default_group_size(const formats::LlamaConfig& config);

/// Writes `out`: model.safetensors (GPTQ's planes; embedding, norms and an untied head as f16), config.json,
/// quantize_config.json, tokenizer files and template, slmi.json, and the table of errors as quantization.csv and
/// .json. Inside a layer q/k/v, then o, then gate/up, then down are calibrated on the layer as quantized so far.
/// Memory: one layer, the hidden states of all calibration tokens, and one group's Hessian.
///
/// Finished layers are kept in `out`/unfinished until the model is whole; a call with the same weights, rows and
/// options goes on from them and gives the same bytes.
/// @throws Error{Usage} for sizes that GPTQ cannot hold (all in one message), for an `out` that holds other files or an
///         unfinished job with other options; what gptq_quantize throws; Error{Output}. After an error `out` holds
///         what it held, and the finished layers (model::UnfinishedModel).
QuantizeResult quantize_model(const model::ModelFiles& files, const WeightSource& weights, const CalibrationRows& rows,
                              const formats::Provenance& provenance, const std::filesystem::path& out,
                              const QuantizeOptions& options);

}  // namespace slmi::calib
