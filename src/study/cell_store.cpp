// The study's memory on disk; see the header.
#include "cell_store.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"

namespace slmi::study {
namespace {

namespace fs = std::filesystem;

Json file_key(const fs::path& file) {
  const auto changed = fs::last_write_time(file).time_since_epoch();
  return Json::array({file.filename().string(), fs::file_size(file),
                      std::chrono::duration_cast<std::chrono::nanoseconds>(changed).count()});
}

}  // namespace

Json files_key(const fs::path& path) {
  if (!fs::is_directory(path)) return Json::array({file_key(path)});
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  Json out = Json::array();
  for (const auto& file : files) out.push_back(file_key(file));
  return out;
}

int64_t weight_file_bytes(const fs::path& path) {
  if (!fs::is_directory(path)) return static_cast<int64_t>(fs::file_size(path));
  int64_t sum = 0;
  for (const auto& entry : fs::directory_iterator(path)) {
    const auto ending = entry.path().extension();
    if (ending == ".safetensors" || ending == ".gguf") sum += static_cast<int64_t>(entry.file_size());
  }
  return sum;
}

std::optional<Json> stored_in(const fs::path& file, const Json& key, const char* field) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return std::nullopt;
  try {
    const Json json = read_json_file(file.string());
    if (json.is_object() && json.contains("key") && json["key"] == key && json.contains(field)) return json[field];
  } catch (const Error&) {  // not written by us, or damaged: made anew
  }
  return std::nullopt;
}

void store_in(const fs::path& file, const Json& key, const char* field, const Json& value) {
  write_file_atomically(file, Json{{"key", key}, {field, value}}.dump(1) + "\n");
}

std::optional<CellResult> read_cell(const fs::path& file, const Json& key) {
  const auto json = stored_in(file, key, "cell");
  if (!json) return std::nullopt;
  CellResult out;
  if (json->contains("problem"))
    out.problem = (*json)["problem"].get<std::string>();
  else
    out.run = eval::model_run_from_json((*json)["run"], file.string());
  return out;
}

void write_cell(const fs::path& file, const Json& key, const CellResult& result) {
  store_in(file, key, "cell",
           result.run ? Json{{"run", eval::to_json(*result.run)}} : Json{{"problem", result.problem}});
}

}  // namespace slmi::study
