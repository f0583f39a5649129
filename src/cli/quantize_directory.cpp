// The end of a quantization into a directory; see the header.
#include "quantize_directory.h"

#include <filesystem>
#include <iostream>

#include "slmi/base/atomic_file.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

/// Opening checks every plane, the vocabulary and the template; what they are must be what they were.
void read_again(const QuantizeConfig& config, const QuantizeSource& source, Runtime& rt) {
  const model::ModelFiles written = model::open_files(config.out, {});
  const auto before = source.files.prompts->describe(), after = written.prompts->describe();
  require(before.tokenizer_hash == after.tokenizer_hash && before.template_hash == after.template_hash,
          ErrorKind::Internal, "{}: its tokenizer or template is not that of {}", config.out, config.model_path);
  require(written.base.fingerprint == source.files.base.fingerprint, ErrorKind::Internal,
          "{}: its norm weights are not those of {}", config.out, source.files.base_path.string());
  require(model::stop_ids(written) == model::stop_ids(source.files), ErrorKind::Internal,
          "{}: its stop ids are not those of {}", config.out, config.model_path);
  rt.out << "read again: tokenizer, template, stop ids and every matrix are there\n";
}

}  // namespace

void finish_directory(const QuantizeConfig& config, const QuantizeSource& source, const model::MergedWeights& weights,
                      Runtime& rt) {
  read_again(config, source, rt);
  StageProgress stages(rt, fmt::format("{} is written; its drift was not measured to the end", config.out));
  const auto drift = measure_drift(config, source, weights.quantized_base(), stages, rt);
  const fs::path report = fs::path(config.out) / "report.json";
  const Json json = {{"schema", 1},
                     {"command", rt.command_line},
                     {"model", config.model_path},
                     {"base", source.files.base_path.string()},
                     {"base_formats", source.files.checkpoint->formats_text()},
                     {"merge_base", weights.merge_base()},
                     {"directory", config.out},
                     {"drift", drift ? eval::to_json(*drift) : Json(nullptr)},
                     {"drift_is_lower_bound", weights.quantized_base()}};
  write_file_atomically(report, json.dump(2) + "\n");
  const std::string shown = shell_quoted(config.out);
  rt.out << fmt::format("report: {}\n\nnext:\n  slmi inspect {}\n  slmi predict --model {} \"your request\"\n",
                        report.string(), shown, shown)
         << std::flush;
  check_drop(drift, config);
}

}  // namespace slmi::cli
