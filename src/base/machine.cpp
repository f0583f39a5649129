// Names of processor and GPU; see the header.
#include "slmi/base/machine.h"

#include <filesystem>
#include <fstream>

namespace slmi {

std::string value_in_file(const char* path, const std::string& key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t at = line.find(separator);
    if (at == std::string::npos) continue;
    std::string value = line.substr(at + 1);
    value.erase(0, value.find_first_not_of(" \t\""));
    while (!value.empty() && (value.back() == '"' || value.back() == ' ')) value.pop_back();
    return value;
  }
  return {};
}

std::string processor_name() {
  const std::string name = value_in_file("/proc/cpuinfo", "model name", ':');
  return name.empty() ? value_in_file("/proc/cpuinfo", "Model", ':') : name;
}

std::string gpu_name() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    const std::string name = value_in_file((entry.path() / "information").c_str(), "Model", ':');
    if (!name.empty()) return name;
  }
  return "GPU";
}

}  // namespace slmi
