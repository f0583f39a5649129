// slmi quantize: a model in, a file that others load out, and what that cost. No quantization logic here.

#include "commands.h"
#include "quantize_config.h"
#include "slmi/config/command_line.h"

namespace slmi::cli {
namespace {

void run_quantize(const QuantizeConfig& config, Runtime& rt) {
  if (config.gguf) return run_quantize_gguf(config, rt);
  if (config.gptq) return run_quantize_gptq(config, rt);
  run_quantize_nf4(config, rt);
}

}  // namespace

void add_quantize(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(app, "quantize", "Quantize a model into files that other programs load",
                                          "slmi quantize --gguf --type Q4_K_M --model run --out shop.gguf");
  auto binding = config::bind<QuantizeConfig>(command);
  config::set_action(command, [binding, &rt] { run_quantize(binding->resolve(), rt); });
}

}  // namespace slmi::cli
