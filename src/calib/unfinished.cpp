// Finished layers on disk; see the header.
#include "unfinished.h"

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/model/model_directory.h"

namespace slmi::calib {
namespace {

namespace fs = std::filesystem;

constexpr const char* kReports = "reports";  // metadata key of a layer's file

ModuleReport report_from(const Json& json) {
  ModuleReport out;
  json.at("layer").get_to(out.layer);
  json.at("module").get_to(out.module);
  json.at("rows").get_to(out.n);
  json.at("columns").get_to(out.k);
  json.at("error").get_to(out.error);
  json.at("nearest_error").get_to(out.nearest_error);
  json.at("damp").get_to(out.damp);
  json.at("damp_raises").get_to(out.damp_raises);
  json.at("dead_inputs").get_to(out.dead_inputs);
  return out;
}

/// "group_size 64, now 128; ...": keys that differ.
std::string differences(const Json& there, const Json& now) {
  std::string out;
  for (const auto& [key, value] : now.items()) {
    const Json old = there.is_object() && there.contains(key) ? there[key] : Json(nullptr);
    if (old != value) out += fmt::format("{}{} {}, now {}", out.empty() ? "" : "; ", key, old.dump(), value.dump());
  }
  return out;
}

}  // namespace

bool Unfinished::is_in(const fs::path& out) {
  std::error_code error;
  return fs::exists(out / model::kUnfinished / model::kUnfinishedJob, error);
}

Unfinished::Unfinished(const fs::path& out, const Json& job) : directory_(out / model::kUnfinished) {
  const fs::path path = directory_ / model::kUnfinishedJob;
  if (!is_in(out)) {
    slmi::create_directories(directory_);
    write_file_atomically(path, job.dump(2) + "\n");
    return;
  }
  const std::string different = differences(read_json_file(path.string()), job);
  require(
      different.empty(), ErrorKind::Usage,
      "{}: an unfinished quantization with other inputs ({}); give those again to go on, remove {} to begin anew, or "
      "choose another directory",
      out.string(), different, directory_.string());
}

fs::path Unfinished::file(int64_t layer) const {
  return directory_ / fmt::format("layer-{:05}.safetensors", layer);
}

bool Unfinished::has(int64_t layer) const {
  return fs::exists(file(layer));
}

void Unfinished::save(int64_t layer, const std::map<std::string, std::shared_ptr<const quant::GptqPlanes>>& planes,
                      const std::vector<ModuleReport>& reports) const {
  std::vector<formats::OutputTensor> tensors;
  for (const auto& [module, plane] : planes)
    for (auto& tensor : formats::gptq_tensors(module, plane->view())) tensors.push_back(std::move(tensor));
  Json list = Json::array();
  for (const auto& report : reports) list.push_back(to_json(report));
  formats::write_safetensors(file(layer), tensors, {{kReports, list.dump()}});
}

FinishedLayer Unfinished::load(int64_t layer) const {
  const fs::path path = file(layer);
  FinishedLayer out;
  auto opened = std::make_shared<const formats::SafetensorsFile>(formats::SafetensorsFile::open(path));
  formats::TensorMap tensors(opened->tensors().begin(), opened->tensors().end());
  formats::GptqConfig any;
  any.other_group_sizes = true;
  for (const auto& [name, view] : formats::take_gptq_layers(tensors, any, path.string()).layers)
    out.planes[name.substr(0, name.size() - std::string_view(".weight").size())] = view;
  const auto reports = opened->metadata().find(kReports);
  require(reports != opened->metadata().end(), ErrorKind::Input, "{}: no reports; remove the file to make it again",
          path.string());
  try {
    for (const Json& item : parse_json(reports->second, path.string())) out.reports.push_back(report_from(item));
  } catch (const Json::exception& e) {
    fail(ErrorKind::Input, "{}: damaged reports ({}); remove the file to make it again", path.string(), e.what());
  }
  out.file = std::move(opened);
  return out;
}

void Unfinished::remove() const {
  remove_tree(directory_);
}

}  // namespace slmi::calib
