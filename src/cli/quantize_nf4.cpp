// slmi quantize --nf4: a model in, a directory that bitsandbytes loads out.
#include <iostream>

#include "quantize_directory.h"
#include "slmi/calib/nf4_model.h"

namespace slmi::cli {

void run_quantize_nf4(const QuantizeConfig& config, Runtime& rt) {
  choose_threads(config.model.threads);
  const QuantizeSource source = open_source(config, rt);
  const model::MergedWeights weights(source.files, config.onto);
  const bool twice = config.gptq_flags.double_quant;
  StageProgress stages(rt, fmt::format("{} is as it was: run the same command again", config.out));
  calib::Nf4ModelOptions options;
  options.scales = twice ? quant::Nf4Scales::Double : quant::Nf4Scales::Plain;
  options.device = source.open.load.device;
  options.max_shard_bytes = static_cast<uint64_t>(config.gptq_flags.max_shard_gb * 1e9);
  options.tokenizer = config.model.tokenizer;
  options.progress = [&](int64_t done, int64_t total) { stages.update("nf4", "matrices", done, total); };
  formats::Provenance provenance = weights.provenance(rt.command_line);
  provenance.quantization = twice ? "nf4, blocks of 64, double quantization" : "nf4, blocks of 64";
  const auto result = calib::write_nf4_model(source.files, calib::weights_of(weights), provenance, config.out, options);
  stages.finish();
  rt.out << fmt::format("quantized {} matrices to NF4: {} of weights in {}\n", result.matrices,
                        format_bytes(result.weight_bytes), config.out);
  finish_directory(config, source, weights, rt);
}

}  // namespace slmi::cli
