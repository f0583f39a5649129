// slmi quantize: a model in, a file that others load out, and what that cost. No quantization logic here.
#include <CLI/CLI.hpp>

#include "commands.h"
#include "quantize_config.h"

namespace slmi::cli {
namespace {

void run_quantize(const QuantizeConfig& config, Runtime& rt) {
  if (config.gguf) return run_quantize_gguf(config, rt);
  if (config.gptq) return run_quantize_gptq(config, rt);
  run_quantize_nf4(config, rt);
}

}  // namespace

void add_quantize(CLI::App& app, Runtime& rt) {
  auto* command = app.add_subcommand("quantize", "Quantize a model into files that other programs load");
  auto binding = config::bind<QuantizeConfig>(*command);
  command->footer("Example:\n  slmi quantize --gguf --type Q4_K_M --model run --out shop.gguf");
  command->callback([binding, &rt] { run_quantize(binding->resolve(), rt); });
}

}  // namespace slmi::cli
