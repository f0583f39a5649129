// Memory of this process; see the header.
#include "slmi/eval/memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace slmi::eval {
namespace {

/// Bytes of "Key:   123 kB"; absent if the key is.
std::optional<int64_t> bytes_of(std::string_view status, std::string_view key) {
  for (size_t begin = 0; begin < status.size();) {
    const size_t end = std::min(status.find('\n', begin), status.size());
    std::string_view line = status.substr(begin, end - begin);
    begin = end + 1;
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') continue;
    line.remove_prefix(key.size() + 1);
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    int64_t kib = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), kib).ec != std::errc()) return std::nullopt;
    return kib * 1024;
  }
  return std::nullopt;
}

}  // namespace

MemoryUse parse_process_status(std::string_view status) {
  MemoryUse use;
  use.rss_anon = bytes_of(status, "RssAnon");
  use.rss_file = bytes_of(status, "RssFile");
  if (const auto shared = bytes_of(status, "RssShmem"); shared && use.rss_file) *use.rss_file += *shared;
  use.rss_peak = bytes_of(status, "VmHWM");
  return use;
}

MemoryUse memory_use(c10::Device device) {
  std::ifstream file("/proc/self/status");
  const std::string status((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  MemoryUse use = parse_process_status(status);
  if (device.is_cpu()) return use;
  auto* allocator = c10::getDeviceAllocator(device.type());
  const c10::DeviceIndex index = device.has_index() ? device.index() : c10::DeviceIndex{0};
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  if (!allocator->initialized()) {  // nothing was put there yet; it knows of no device before
    use.vram_allocator = 0;
    return use;
  }
  use.vram_allocator = allocator->getDeviceStats(index).allocated_bytes[kAll].peak;
  const auto [free, total] = allocator->getMemoryInfo(index);
  use.vram_device = static_cast<int64_t>(total - free);
  return use;
}

}  // namespace slmi::eval
