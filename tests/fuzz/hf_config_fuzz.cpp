// Fuzz target: the JSON files of models: config.json, generation_config.json, adapter_config.json and slmi.json.
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "slmi/base/error.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/formats/provenance.h"

namespace {

using namespace slmi::formats;

void check(bool condition) {
  if (!condition) std::abort();
}

void allow_input_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:"));
  }
}

void read_config(const slmi::Json& json) {
  auto config = LlamaConfig::from_hf_json(json, "f");
  check(config.rope_inv_freq().size() == static_cast<size_t>(config.head_dim / 2));
  check(expected_tensors(config).size() >= 11);
  const auto written = config.to_hf_json("bfloat16");
  check(LlamaConfig::from_hf_json(written, "ours").to_hf_json("bfloat16") == written);
  config.add_generation_config(json, "f");
}

/// slmi.json; with a key other_base, against that one.
void read_provenance(const slmi::Json& json) {
  const auto read = Provenance::from_json(json, "f");
  const auto written = read.to_json();
  check(Provenance::from_json(written, "ours").to_json() == written);
  check(check_base(read.base, read.base, "f", "itself") == BaseMatch::Same);
  if (!json.is_object() || !json.contains("other_base")) return;
  slmi::Json other = json;
  other["base"] = json["other_base"];
  check_base(read.base, Provenance::from_json(other, "f").base, "f", "the other");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  allow_input_error([&] {
    const auto json = slmi::parse_json(text, "f");
    allow_input_error([&] { read_config(json); });
    allow_input_error([&] { check(parse_peft_config(json, "f").r >= 1); });
    allow_input_error([&] { read_provenance(json); });
  });
  return 0;
}
