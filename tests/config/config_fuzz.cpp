// Fuzz target of the configuration reader: any bytes are either read or refused with Error{Usage}.
#include <cstdint>
#include <string>
#include <string_view>

#include "example_config.h"
#include "slmi/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using slmi::config::ExampleConfig;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto config = slmi::config::from_text<ExampleConfig>(text, "fuzz.json");
    // What was accepted must survive being written and read.
    const auto resolved = slmi::config::resolved_json(config).dump();
    const auto again = slmi::config::resolved_json(slmi::config::from_text<ExampleConfig>(resolved, "again")).dump();
    if (resolved != again) __builtin_trap();
  } catch (const slmi::Error& e) {
    if (e.kind() != slmi::ErrorKind::Usage) __builtin_trap();
  }
  return 0;
}
