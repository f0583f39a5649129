// slmi quantize: a model in, a file that others load out, and what that cost. No quantization logic here.
#include <CLI/CLI.hpp>

#include "commands.h"
#include "quantize_config.h"
#include "slmi/base/error.h"

namespace slmi::cli {
namespace {

void run_quantize(const QuantizeConfig& config, Runtime& rt) {
  require(config.gguf, ErrorKind::Usage, "which form? give --gguf (a file for llama.cpp); see slmi quantize --help");
  run_quantize_gguf(config, rt);
}

}  // namespace

void add_quantize(CLI::App& app, Runtime& rt) {
  auto* command = app.add_subcommand("quantize", "Write a model as a file that other programs load");
  auto binding = config::bind<QuantizeConfig>(*command);
  command->footer("Example:\n  slmi quantize --gguf --type Q4_K_M --model run --out shop.gguf");
  command->callback([binding, &rt] { run_quantize(binding->resolve(), rt); });
}

}  // namespace slmi::cli
