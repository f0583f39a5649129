// Fuzz target: bitsandbytes' NF4 layers in a safetensors file. Whatever the bytes are, the layers found can be
// dequantized and written again, or Error{Input} names the file.
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = SafetensorsFile::parse(std::as_bytes(std::span(data, size)), "f");
    TensorMap tensors(file.tensors().begin(), file.tensors().end());
    for (const auto& [name, layer] : take_nf4_layers(tensors, "f")) use(name, layer);
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:"));
  }
  return 0;
}
