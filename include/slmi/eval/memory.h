// Memory of this process, as the kernel and libtorch's allocator count it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace slmi::eval {

/// Bytes. Absent: this system, or this device, does not say.
struct MemoryUse {
  std::optional<int64_t> rss_anon, rss_file;  // resident now: private memory, and pages of mapped files
  std::optional<int64_t> rss_peak;            // highest resident sum so far
  std::optional<int64_t> vram_allocator;      // most that libtorch's allocator had given out
  std::optional<int64_t> vram_device;         // in use on the whole device now, by whomever
};

/// Looks at /proc/self/status and, for a GPU, at libtorch's allocator and the driver.
MemoryUse memory_use(c10::Device device);

/// The text of /proc/PID/status: RssAnon, RssFile + RssShmem, VmHWM.
MemoryUse parse_process_status(std::string_view status);

}  // namespace slmi::eval
