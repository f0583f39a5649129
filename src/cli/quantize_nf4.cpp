// slmi quantize --nf4: a model in, a directory that bitsandbytes loads out; and what it shares with --gptq.
#include <csignal>
#include <iostream>
#include <optional>

#include "quantize_gptq.h"
#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/progress.h"
#include "slmi/base/sha256.h"
#include "slmi/calib/nf4_model.h"

namespace slmi::cli {

model::ModelFiles open_to_quantize(const QuantizeTarget& target, Runtime& rt) {
  require(target.model.base_format == model::BaseFormat::Stored, ErrorKind::Usage,
          "--base-format: a model is quantized from its weights as they are stored");
  model::OpenOptions open;
  open.base = target.model.base;
  open.prompt_template = target.model.prompt_template;
  open.system = target.model.system;
  open.tokenizer = target.model.tokenizer;
  model::ModelFiles files = model::open_files(target.model_path, open);
  if (!files.note.empty()) rt.err << "note: " << files.note << "\n";
  return files;
}

formats::Provenance quantized_provenance(const model::ModelFiles& files, const std::string& how, const Runtime& rt) {
  formats::Provenance p = model::provenance_of(files, rt.command_line);
  p.quantization = how;
  if (files.adapter_path.empty()) return p;
  // As slmi merge does: a base that tells no lineage is the beginning of one.
  const std::string hash = sha256_hex(MappedFile::open(files.adapter_path / "adapter_model.safetensors").text());
  auto lineage = files.base.lineage.value_or(std::vector<std::string>{files.base.fingerprint});
  lineage.push_back(hash);
  p.base.lineage = std::move(lineage);
  p.adapter = fmt::format("{} sha256:{}", files.adapter_path.string(), hash);
  return p;
}

void run_quantize_nf4(const QuantizeTarget& target, const GptqFlags& flags, Runtime& rt) {
  choose_threads(target.model.threads);
  const model::ModelFiles files = open_to_quantize(target, rt);
  calib::Nf4ModelOptions options;
  options.scales = flags.double_quant ? quant::Nf4Scales::Double : quant::Nf4Scales::Plain;
  options.max_shard_bytes = static_cast<uint64_t>(flags.max_shard_gb * 1e9);
  options.tokenizer = target.model.tokenizer;
  std::optional<Progress> progress;
  options.progress = [&](int64_t done, int64_t total) {
    if (rt.signal != 0)
      fail(rt.signal == SIGINT ? ErrorKind::Interrupted : ErrorKind::Terminated,
           "stopped; {} holds no whole model: run the same command again", target.out);
    if (!progress) progress.emplace("nf4", "matrices", total);
    progress->update(done);
  };
  const std::string how = flags.double_quant ? "nf4, blocks of 64, double quantization" : "nf4, blocks of 64";
  const auto result = calib::write_nf4_model(files, calib::weights_of(files), quantized_provenance(files, how, rt),
                                             target.out, options);
  if (progress) progress->finish();
  const std::string shown = shell_quoted(target.out);
  rt.out << fmt::format("quantized {} matrices to NF4: {} of weights in {}\n\nnext:\n  slmi inspect {}\n",
                        result.matrices, format_bytes(result.weight_bytes), target.out, shown);
}

}  // namespace slmi::cli
