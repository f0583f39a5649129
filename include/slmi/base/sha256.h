// SHA-256 (FIPS 180-4): identity of files, tokenizers, templates and bases.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace slmi {

class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  /// Little-endian bytes of an integer.
  void update_u64(uint64_t value);
  /// Lower-case hex digest; the object must not be used afterwards.
  std::string hex();

 private:
  void block(const uint8_t* p);
  std::array<uint32_t, 8> h_;
  std::array<uint8_t, 64> buffer_;
  uint64_t length_ = 0;
};

std::string sha256_hex(std::string_view text);

}  // namespace slmi
