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

/// The key that a file of ours carries; null if there is no such file, or it is not one of ours.
Json stored(const fs::path& file, const char* field) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return nullptr;
  try {
    const Json json = read_json_file(file.string());
    return json.is_object() && json.contains(field) ? json[field] : Json(nullptr);
  } catch (const Error&) {
    return nullptr;
  }
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

bool is_made_from(const fs::path& stamp, const Json& key) {
  return stored(stamp, "key") == key;
}

void note_made(const fs::path& stamp, const Json& key) {
  write_file_atomically(stamp, Json{{"key", key}}.dump(2) + "\n");
}

std::optional<CellResult> read_cell(const fs::path& file, const Json& key) {
  if (stored(file, "key") != key) return std::nullopt;
  const Json json = read_json_file(file.string());
  CellResult out;
  try {
    out.problem = json.at("problem").get<std::string>();
    if (out.problem.empty()) out.run = eval::model_run_from_json(json.at("run"), file.string());
  } catch (const Error&) {
    return std::nullopt;  // by another version
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  return out;
}

void write_cell(const fs::path& file, const Json& key, const CellResult& result) {
  const Json json = {{"schema", 1},
                     {"key", key},
                     {"problem", result.problem},
                     {"run", result.run ? eval::to_json(*result.run) : Json(nullptr)}};
  write_file_atomically(file, json.dump(1) + "\n");
}

}  // namespace slmi::study
