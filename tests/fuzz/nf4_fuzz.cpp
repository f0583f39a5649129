// Fuzz target: bitsandbytes' NF4 layers in a safetensors file. Whatever the bytes are, the layers found can be
// dequantized and written again, or Error{Input} names the file. What begins as JSON is a config.json.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "slmi/base/error.h"
#include "slmi/formats/nf4_checkpoint.h"

namespace {

using namespace slmi::formats;

void check(bool condition) {
  if (!condition) std::abort();
}

void use(const std::string& name, const Nf4Layer& layer) {
  const auto matrix = layer.matrix();
  slmi::quant::nf4_check(matrix, name);
  std::vector<float> values(static_cast<size_t>(matrix.n * matrix.k));
  slmi::quant::nf4_dequantize(matrix, values);
  for (const auto& tensor : nf4_tensors("m", matrix, "float32"))
    check(tensor.size_bytes() == (tensor.produce ? tensor.produce().size() : tensor.bytes.size()));
}

void read_layers(std::span<const std::byte> bytes) {
  const auto file = SafetensorsFile::parse(bytes, "f");
  TensorMap tensors(file.tensors().begin(), file.tensors().end());
  for (const auto& [name, layer] : take_nf4_layers(tensors, "f")) use(name, layer);
}

void read_config(std::string_view text) {
  const auto ours = [](slmi::quant::Nf4Scales scales) {
    return slmi::Json({{"quantization_config", nf4_config_json(scales, "float32")}});
  };
  check(is_nf4_config(ours(slmi::quant::Nf4Scales::Plain), "ours"));
  check(is_nf4_config(ours(slmi::quant::Nf4Scales::Double), "ours"));
  is_nf4_config(slmi::parse_json(text, "f"), "f");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    if (text.starts_with('{'))
      read_config(text);
    else
      read_layers(std::as_bytes(std::span(data, size)));
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:"));
  }
  return 0;
}
