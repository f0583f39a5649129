// Which cells a study has, and what they are held against; see the header.
#include <algorithm>
#include <set>

#include "slmi/base/error.h"
#include "slmi/quant/gguf_mix.h"
#include "slmi/study/study.h"

namespace slmi::study {
namespace {

template <class T>
void check_different(const std::vector<T>& values, const char* what) {
  require(!values.empty(), ErrorKind::Usage, "no {} to study", what);
  std::set<T> seen;
  for (const auto& value : values)
    require(seen.insert(value).second, ErrorKind::Usage, "{} {} is given twice", what, value);
}

}  // namespace

Format parse_format(const std::string& name) {
  if (name == "f32" || name == "f16" || name == "bf16") return {name, Maker::Merge};
  if (name == "nf4") return {name, Maker::Nf4};
  if (name == "gptq") return {name, Maker::Gptq};
  try {
    return {std::string(quant::name(quant::parse_file_type(name))), Maker::Gguf};
  } catch (const Error&) {
    std::vector<std::string> known;
    for (const auto type : quant::all_file_types()) known.emplace_back(quant::name(type));
    fail(ErrorKind::Usage, "format '{}': expected f32, f16, bf16, nf4, gptq or a GGUF file type ({})", name,
         fmt::join(known, ", "));
  }
}

std::string Cell::id(const std::string& model_name) const {
  std::string out = fmt::format("{}-{}-{}-{}", model_name, format.name, device, threads);
  for (char& c : out)
    if (c == '/' || c == '\\' || c == ' ' || c == ':') c = '_';
  return out;
}

std::vector<Cell> plan(const StudyOptions& options) {
  require(!options.models.empty(), ErrorKind::Usage, "no model to study: give --model [NAME=]MODEL");
  check_different(options.formats, "format");
  check_different(options.devices, "device");
  check_different(options.threads, "number of threads");
  for (const auto& device : options.devices)
    require(device == "cpu" || device == "cuda", ErrorKind::Usage, "device '{}': expected cpu or cuda", device);
  std::vector<Format> formats;
  for (const auto& name : options.formats) formats.push_back(parse_format(name));
  std::vector<Cell> cells;
  for (size_t model = 0; model < options.models.size(); ++model)
    for (const auto& device : options.devices)
      for (const int64_t threads : options.threads) {
        if (device != "cpu" && threads != options.threads.front()) continue;
        for (const auto& format : formats) cells.push_back({model, format, device, threads});
      }
  return cells;
}

int64_t reference_of(const std::vector<Cell>& cells, size_t cell) {
  for (const char* name : {"f16", "bf16", "f32"})
    for (size_t i = 0; i < cells.size(); ++i)
      if (cells[i].format.maker == Maker::Merge && cells[i].format.name == name &&
          cells[i].model == cells[cell].model && cells[i].device == cells[cell].device &&
          cells[i].threads == cells[cell].threads)
        return static_cast<int64_t>(i);
  return -1;
}

}  // namespace slmi::study
