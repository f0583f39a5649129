// Fuzz target: GGUF, its metadata values, and the model's config from them. Errors are Error{Input} that name the file.
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "slmi/base/error.h"
#include "slmi/formats/checkpoint.h"

namespace {

using namespace slmi::formats;

void check(bool condition) {
  if (!condition) std::abort();
}

/// Runs `action`; it may throw Error{Input} that names the file, and nothing else.
void allow_input_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:"));
  }
}

void read_value(const GgufValue& value) {
  allow_input_error([&] { value.as_int(); });
  allow_input_error([&] { value.as_float(); });
  allow_input_error([&] { value.as_bool(); });
  allow_input_error([&] { check(value.as_string().size() <= value.payload.size()); });
  allow_input_error([&] { check(value.strings().size() == value.count); });
  allow_input_error([&] { check(value.ints().size() == value.count); });
  allow_input_error([&] { check(value.floats().size() == value.count); });
}

void read_config(const GgufFile& file) {
  const auto config = LlamaConfig::from_gguf(file);
  check(config.head_dim % 2 == 0 && config.num_heads % config.num_kv_heads == 0);
  check(config.rope_inv_freq().size() == static_cast<size_t>(config.head_dim / 2));
  check(expected_tensors(config).size() >= 11);
  try {
    config.to_hf_json("float16");
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Usage);  // divisors of no known rule
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  allow_input_error([&] {
    const auto file = GgufFile::parse(bytes, "f");
    for (const auto& [name, t] : file.tensors()) {
      check(t.bytes.data() >= bytes.data() && t.bytes.data() + t.bytes.size() <= bytes.data() + bytes.size());
      check(static_cast<uint64_t>(t.bytes.data() - bytes.data()) % file.alignment() == 0);
      hf_name_of_gguf(name);
    }
    for (const auto& [key, value] : file.metadata()) read_value(value);
    read_config(file);
  });
  return 0;
}
