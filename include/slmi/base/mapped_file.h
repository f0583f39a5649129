// A read-only memory-mapped file: how every weight and data file enters the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

namespace slmi {

/// Read-only private mapping of a whole file. Copies share the mapping; it lives until the last copy is gone.
/// Thread-safe for reading. The file must not be truncated while mapped.
class MappedFile {
 public:
  MappedFile() = default;
  /// @throws Error{Input} if the file is missing, not a regular file, or cannot be mapped. An empty file maps to no
  /// bytes.
  static MappedFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  uint64_t size() const { return bytes_.size(); }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const void> mapping_;
  std::span<const std::byte> bytes_;
};

}  // namespace slmi
