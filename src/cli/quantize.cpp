// slmi quantize: registers the ways to quantize a model.
#include <CLI/CLI.hpp>

#include "commands.h"
#include "quantize_gptq.h"

namespace slmi::cli {
namespace {

struct QuantizeConfig {
  bool gptq = false, nf4 = false;
  QuantizeTarget target;
  GptqFlags flags;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = QuantizeConfig;
    field("gptq", &T::gptq, Group{"Form"}, "4 bits in GPTQ's form, for vLLM, transformers and GPTQModel");
    field("nf4", &T::nf4, Synonyms{"bnb", "bitsandbytes"}, "4 bits in bitsandbytes' form, for transformers");
    field(Inline{}, &T::target);
    field(Inline{}, &T::flags);
  }
  void check(std::vector<std::string>& problems) const {
    if (gptq == nf4) problems.emplace_back("say which form: --gptq or --nf4");
  }
};

}  // namespace

void add_quantize(CLI::App& app, Runtime& rt) {
  auto* command = app.add_subcommand("quantize", "Quantize a model into files that other programs load");
  auto binding = config::bind<QuantizeConfig>(*command);
  command->footer("Example:\n  slmi quantize --gptq --model run --out run-gptq");
  command->callback([binding, &rt] {
    const QuantizeConfig config = binding->resolve();
    if (config.gptq)
      run_quantize_gptq(config.target, config.flags, rt);
    else
      run_quantize_nf4(config.target, config.flags, rt);
  });
}

}  // namespace slmi::cli
