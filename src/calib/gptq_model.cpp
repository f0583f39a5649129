// A whole model through GPTQ, and the directory that comes of it; see the header.
#include "slmi/calib/gptq_model.h"

#include <ATen/ATen.h>
#include <map>
#include <utility>

#include "layer_quantizer.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/model/model_directory.h"
#include "slmi/report/table.h"
#include "unfinished.h"

namespace slmi::calib {
namespace {

namespace fs = std::filesystem;
using formats::Dtype;

const char* order_name(ColumnOrder order) {
  return order == ColumnOrder::ActOrder ? "act-order" : order == ColumnOrder::GroupAware ? "group-aware" : "as-stored";
}

formats::GptqConfig config_of(const GptqOptions& options, const formats::Provenance& provenance) {
  formats::GptqConfig out;
  out.group_size = options.group_size;
  out.desc_act = options.order == ColumnOrder::ActOrder;
  out.sym = true;
  out.label = quant::GptqZeros::MinusOne;
  out.meta = {{"quantizer", {"slmi:" + provenance.version}},
              {"damp_percent", options.damp},
              {"damp_auto_increment", options.damp_step},
              {"act_group_aware", options.order == ColumnOrder::GroupAware},
              {"static_groups", false},
              {"true_sequential", true}};
  return out;
}

/// What the result depends on; a job that was stopped goes on only with the same.
Json job_of(const model::ModelFiles& files, const CalibrationRows& rows, const formats::Provenance& provenance,
            const QuantizeOptions& o) {
  return {{"group_size", o.gptq.group_size},
          {"order", order_name(o.gptq.order)},
          {"damp", o.gptq.damp},
          {"damp_step", o.gptq.damp_step},
          {"max_damp", o.gptq.max_damp},
          {"drift_alpha", o.gptq.drift_alpha},
          {"compute", ops::name(o.compute)},
          {"device", o.device.is_cpu() ? "cpu" : "gpu"},
          {"batches", rows.batches.size()},
          {"calibration", rows.hash},
          {"answer_weight", rows.answer_weight},
          {"base", files.base.fingerprint},
          {"base_bytes", files.checkpoint->file_bytes()},
          {"adapter", provenance.adapter},
          {"merge_base", provenance.merge_base}};
}

void check_sizes(const formats::LlamaConfig& config, int64_t group_size) {
  std::string problems;
  for (const auto& module : model::all_projections()) {
    const auto [n, k] = model::projection_shape(config, module);
    if (n % quant::kGptqMultiple != 0 || k % quant::kGptqMultiple != 0)
      problems += fmt::format("\n  {} is [{}, {}]: GPTQ needs multiples of {}", module, n, k, quant::kGptqMultiple);
    else if (group_size > 0 && k % group_size != 0)
      problems += fmt::format("\n  {} has rows of {}: groups of {} do not divide them", module, k, group_size);
  }
  require(problems.empty(), ErrorKind::Usage, "--group-size {}: not possible with this model:{}", group_size, problems);
}

std::vector<formats::OutputTensor> model_tensors(const formats::Checkpoint& checkpoint, const WeightSource& weights,
                                                 const std::vector<FinishedLayer>& layers) {
  std::map<std::string, std::shared_ptr<const quant::GptqView>> planes;
  for (const auto& layer : layers) planes.insert(layer.planes.begin(), layer.planes.end());
  std::vector<formats::OutputTensor> out;
  for (const auto& [name, shape] : formats::expected_tensors(checkpoint.config())) {
    const std::string module = name.substr(0, name.size() - std::string_view(".weight").size());
    if (const auto found = planes.find(module); found != planes.end()) {
      for (auto& tensor : formats::gptq_tensors(module, *found->second)) out.push_back(std::move(tensor));
    } else {
      out.push_back(number_tensor(name, shape, Dtype::F16, checkpoint, weights));
    }
  }
  return out;
}

/// Keeps the planes of the layer at hand beside the matrices that the model runs on.
class GptqGroups final : public GroupSolver {
 public:
  explicit GptqGroups(const GptqOptions& options) : options_(options) {}

  Solved solve(const std::vector<std::string>& paths, const std::vector<at::Tensor>& weights, InputStatistics inputs,
               const std::string& name) override {
    GptqResult result =
        gptq_quantize(weights.size() == 1 ? weights[0] : at::cat(weights), std::move(inputs), options_, name);
    Solved out;
    int64_t row = 0;
    for (size_t i = 0; i < paths.size(); ++i) {
      const int64_t end = row + weights[i].size(0);
      auto planes = std::make_shared<const quant::GptqPlanes>(
          quant::gptq_pack(rows_of(result.codes, row, end), quant::GptqZeros::MinusOne));
      out.matrices.push_back(ops::PackedMatrix::from_gptq(paths[i] + ".weight", planes));
      planes_[paths[i]] = std::move(planes);
      row = end;
    }
    out.report = std::move(result);
    return out;
  }
  /// By module path.
  std::map<std::string, std::shared_ptr<const quant::GptqPlanes>> take_planes() { return std::exchange(planes_, {}); }

 private:
  const GptqOptions& options_;
  std::map<std::string, std::shared_ptr<const quant::GptqPlanes>> planes_;
};

/// A finished layer's matrix.
ops::PackedMatrix matrix_of(const FinishedLayer& finished, const std::string& path) {
  const auto found = finished.planes.find(path);
  require(found != finished.planes.end(), ErrorKind::Input, "{}: no layer '{}'; remove the file to make it again",
          finished.file->source(), path);
  formats::StoredTensor stored;
  stored.name = path + ".weight";
  stored.format = quant::WeightFormat::GPTQ;
  stored.shape = {found->second->n, found->second->k};
  stored.bytes = found->second->qweight;
  stored.owner = finished.file;
  stored.gptq = found->second;
  return ops::PackedMatrix::from_stored(std::move(stored));
}

void write_table(const fs::path& out, const std::vector<ModuleReport>& modules, const Json& job) {
  using report::Align;
  report::Table table({{"layer", Align::Right},
                       {"module"},
                       {"rows", Align::Right},
                       {"columns", Align::Right},
                       {"error", Align::Right},
                       {"nearest_error", Align::Right},
                       {"damp", Align::Right},
                       {"damp_raises", Align::Right},
                       {"dead_inputs", Align::Right}});
  Json list = Json::array();
  for (const auto& m : modules) {
    table.add_row({fmt::to_string(m.layer), m.module, fmt::to_string(m.n), fmt::to_string(m.k),
                   fmt::format("{:.6g}", m.error), fmt::format("{:.6g}", m.nearest_error), fmt::format("{:g}", m.damp),
                   fmt::to_string(m.damp_raises), fmt::to_string(m.dead_inputs)});
    list.push_back(to_json(m));
  }
  write_file_atomically(out / "quantization.csv", table.csv());
  write_file_atomically(out / "quantization.json", Json{{"job", job}, {"modules", list}}.dump(2) + "\n");
}

}  // namespace

int64_t default_group_size(const formats::LlamaConfig& config) {
  for (const int64_t size : {128, 64, 32}) {
    bool divides = true;
    for (const auto& module : model::all_projections())
      divides = divides && model::projection_shape(config, module).second % size == 0;
    if (divides) return size;
  }
  check_sizes(config, 32);
  return 32;
}

QuantizeResult quantize_model(const model::ModelFiles& files, const WeightSource& weights, const CalibrationRows& rows,
                              const formats::Provenance& provenance, const fs::path& out,
                              const QuantizeOptions& options) {
  const auto& checkpoint = *files.checkpoint;
  check_sizes(checkpoint.config(), options.gptq.group_size);
  model::check_out(files, out);
  const Json job = job_of(files, rows, provenance, options);
  const Unfinished unfinished(out, job);

  GptqGroups solver(options.gptq);
  LayerQuantizer quantizer(checkpoint, weights, rows, options, options.gptq, solver);
  QuantizeResult result;
  std::vector<FinishedLayer> layers;
  const int64_t num_layers = checkpoint.config().num_layers;
  int64_t done = 0;
  const auto advance = [&](int64_t groups) {
    done += groups;
    if (options.progress) options.progress(done, kGroupsPerLayer * num_layers);
  };
  for (int64_t i = 0; i < num_layers; ++i) {
    if (unfinished.has(i)) {
      const FinishedLayer finished = unfinished.load(i);
      quantizer.pass_through(i, [&](const std::string& path) { return matrix_of(finished, path); });
      ++result.resumed_layers;
      advance(kGroupsPerLayer);
    } else {
      const auto reports = quantizer.quantize(i, [&] { advance(1); });
      unfinished.save(i, solver.take_planes(), reports);
    }
    layers.push_back(unfinished.load(i));
    result.modules.insert(result.modules.end(), layers.back().reports.begin(), layers.back().reports.end());
  }
  model::UnfinishedModel made(out);
  write_table(made.path(), result.modules, job);
  model::write_tokenizer(files, made.path(), options.tokenizer);
  const auto tensors = model_tensors(checkpoint, weights, layers);
  for (const auto& tensor : tensors) result.weight_bytes += tensor.size_bytes();
  formats::HfWriteOptions write;
  write.dtype = "float16";
  write.max_shard_bytes = options.max_shard_bytes;
  write.stop_ids = provenance.stop_ids;
  write.quantization = config_of(options.gptq, provenance).to_json();
  formats::write_hf_directory(made.path(), checkpoint.config(), tensors, provenance, write);
  made.finish();
  unfinished.remove();
  return result;
}

}  // namespace slmi::calib
