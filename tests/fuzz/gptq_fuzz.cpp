// Fuzz target: GPTQ's configuration and planes. The input is a configuration (JSON), a NUL byte, and a safetensors
// file; whatever they are, the layers found can be dequantized and packed again, or Error{Input} names the file.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "slmi/base/error.h"
#include "slmi/formats/gptq_checkpoint.h"

namespace {

using namespace slmi::formats;
using slmi::quant::GptqView;

void check(bool condition) {
  if (!condition) std::abort();
}

/// First and last row, alone.
void use(const GptqView& view) {
  std::vector<float> row(static_cast<size_t>(view.k));
  slmi::quant::gptq_dequantize_rows(view, row.data(), view.k, 0, 1);
  slmi::quant::gptq_dequantize_rows(view, row.data(), view.k, view.n - 1, view.n);
  if (view.scale_type != slmi::quant::GptqScales::F16) return;
  const auto codes = slmi::quant::gptq_unpack(view);
  const auto planes = slmi::quant::gptq_pack(codes, slmi::quant::GptqZeros::AsIs);
  slmi::quant::gptq_check(planes.view(), "packed again");
  const auto again = slmi::quant::gptq_unpack(planes.view());
  check(again.codes == codes.codes && again.zeros == codes.zeros && again.g_idx == codes.g_idx);
}

void read(std::string_view json, std::span<const std::byte> bytes) {
  const auto file = SafetensorsFile::parse(bytes, "f");
  TensorMap tensors(file.tensors().begin(), file.tensors().end());
  std::optional<GptqConfig> config;
  if (!json.empty()) {
    config = GptqConfig::from_json(slmi::parse_json(json, "f"), "f");
    check(GptqConfig::from_json(config->to_json(), "ours").to_json() == config->to_json());
  }
  for (const auto& [name, view] : take_gptq_layers(tensors, config, "f").layers) {
    check(name.ends_with(".weight"));
    use(*view);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = text.find('\0');
  const size_t rest = end == std::string_view::npos ? size : end + 1;
  try {
    read(text.substr(0, end), std::as_bytes(std::span(data, size)).subspan(rest));
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:"));
  }
  return 0;
}
