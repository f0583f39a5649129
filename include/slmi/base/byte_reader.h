// Bounds-checked little-endian reading of bytes from outside; every failure names the file and the byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "slmi/base/error.h"

namespace slmi {

/// Cursor over a span of bytes. Never reads past the end and never allocates from a size it has not checked.
/// All methods throw Error{Input} naming source, byte position, what was wanted and what is left.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string source) : bytes_(bytes), source_(std::move(source)) {}

  template <class T>
  T read(std::string_view what) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto raw = read_bytes(sizeof(T), what);
    T out;
    std::memcpy(&out, raw.data(), sizeof(T));
    return out;
  }
  uint8_t read_u8(std::string_view what) { return read<uint8_t>(what); }
  uint32_t read_u32(std::string_view what) { return read<uint32_t>(what); }
  uint64_t read_u64(std::string_view what) { return read<uint64_t>(what); }
  /// The next n bytes, not copied.
  std::span<const std::byte> read_bytes(uint64_t n, std::string_view what);
  /// Moves to an absolute position <= size().
  void seek(uint64_t position);

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }
  uint64_t size() const { return bytes_.size(); }
  const std::string& source() const { return source_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(ErrorKind::Input,
                fmt::format("{}: byte {}: {}", source_, position_, fmt::format(format, std::forward<Args>(args)...)));
  }
  template <class... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) fail(format, std::forward<Args>(args)...);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string source_;
  uint64_t position_ = 0;
};

}  // namespace slmi
