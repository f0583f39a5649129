// Fuzz target: safetensors, also as an adapter. Whatever the bytes are, the reader returns tensors inside them or
// throws Error{Input}.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "slmi/base/error.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/formats/safetensors.h"

namespace {

void check(bool condition) {
  if (!condition) std::abort();
}

void check_tensor(const slmi::formats::SafetensorsTensor& t, std::span<const std::byte> bytes) {
  using namespace slmi::formats;
  check(t.bytes.size() == num_elements(t.shape) * dtype_bytes(t.dtype));
  check(t.bytes.data() >= bytes.data() && t.bytes.data() + t.bytes.size() <= bytes.data() + bytes.size());
  const bool floats = t.dtype == Dtype::F32 || t.dtype == Dtype::F16 || t.dtype == Dtype::BF16;
  if (floats) check(floats_from(t.dtype, t.bytes, "t").size() == num_elements(t.shape));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace slmi::formats;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto file = SafetensorsFile::parse(bytes, "f");
    uint64_t total = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      check_tensor(tensor, bytes);
      check(&file.tensor(name) == &tensor);
      total += tensor.bytes.size();
    }
    check(total + sizeof(uint64_t) <= size);  // no two tensors share a byte
    PeftConfig config;
    config.r = 2;
    const auto adapter = PeftAdapter::from_parts(config, file);
    for (const auto& [key, pair] : adapter.pairs()) {
      check(pair.a.rows == 2 && pair.b.columns == 2 && key.first >= 0);
    }
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:"));
  }
  return 0;
}
