// Rows to calibrate on and to compare on; see the header.
#include "quantize_rows.h"

#include <algorithm>

#include "slmi/data/row_reader.h"

namespace slmi::cli {

namespace fs = std::filesystem;

QuantizeRows rows_of(const QuantizeConfig& config, const model::ModelFiles& files,
                     const std::vector<std::string>& named, model::TrainingRows (*of_run)(const fs::path& run)) {
  QuantizeRows out;
  out.source = {{named.begin(), named.end()}, config.text_field, config.answer_field, 0};
  if (!named.empty() || files.kind != model::PathKind::Run) return out;
  const model::TrainingRows own = of_run(files.path);
  const auto missing = std::ranges::find_if(own.files, [](const fs::path& file) {
    std::error_code error;
    return !fs::is_regular_file(file, error);
  });
  if (missing != own.files.end())
    out.missing = *missing;
  else
    out.source = {own.files, own.text_field, own.answer_field, 0};
  return out;
}

QuantizeRows calibration_source(const QuantizeConfig& config, const model::ModelFiles& files) {
  return rows_of(config, files, config.calibration, model::training_rows);
}

calib::CalibrationOptions calibration_options(const QuantizeConfig& config, const model::ModelFiles& files,
                                              int64_t num_rows) {
  calib::CalibrationOptions out;
  out.max_rows = config.calibration_rows.value_or(num_rows);
  out.max_tokens = config.gptq_flags.calibration_tokens.value_or(files.checkpoint->config().max_position_embeddings);
  if (!config.calibration_rows) out.total_tokens = kCalibrationTokens;
  out.batch_tokens = config.gptq_flags.micro_tokens;
  out.answer_weight = config.gptq_flags.answer_weight;
  return out;
}

calib::CalibrationRows read_calibration(const eval::RowSource& source, const model::ModelFiles& files,
                                        const calib::CalibrationOptions& options, at::Device device) {
  data::ReadOptions read;
  read.text_field = source.text_field;
  read.answer_field = source.answer_field;
  read.system_text = files.prompts->system_text();
  read.targets = data::Targets::Optional;
  return calib::take_calibration_rows(data::read_rows(source.files, read), *files.prompts, options, device);
}

}  // namespace slmi::cli
