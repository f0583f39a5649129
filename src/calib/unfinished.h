// The work directory of a quantization: its layers as they are finished, so that a stopped job goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/calib/gptq_model.h"
#include "slmi/formats/gptq_checkpoint.h"

namespace slmi::calib {

/// A layer's planes by module path, "model.layers.0.self_attn.q_proj", and their errors.
struct FinishedLayer {
  std::shared_ptr<const formats::SafetensorsFile> file;  // holds the planes' bytes
  std::map<std::string, std::shared_ptr<const quant::GptqView>> planes;
  std::vector<ModuleReport> reports;
};

/// `OUT`/unfinished: job.json and one safetensors file a layer, each written as a whole or not at all.
class Unfinished {
 public:
  /// Takes up the job that is there, or begins one. @throws Error{Usage} naming what differs if it is another job.
  Unfinished(const std::filesystem::path& out, const Json& job);
  static bool is_in(const std::filesystem::path& out);

  bool has(int64_t layer) const;
  void save(int64_t layer, const std::map<std::string, std::shared_ptr<const quant::GptqPlanes>>& planes,
            const std::vector<ModuleReport>& reports) const;
  /// @throws Error{Input} naming the file if it is damaged.
  FinishedLayer load(int64_t layer) const;
  void remove() const;

 private:
  std::filesystem::path file(int64_t layer) const;
  std::filesystem::path directory_;
};

}  // namespace slmi::calib
