// The canonical listing of a tokenizer that its hash is taken over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "slmi/base/sha256.h"

namespace slmi::text {

/// Feeds numbers (32 bits, little-endian) and strings (length, then bytes) to SHA-256, through a buffer.
class HashListing {
 public:
  void add(uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) buffer_ += static_cast<char>((value >> shift) & 0xFF);
    flush_if_full();
  }
  void add(int32_t value) { add(static_cast<uint32_t>(value)); }
  void add(std::string_view bytes) {
    add(static_cast<uint32_t>(bytes.size()));
    buffer_ += bytes;
    flush_if_full();
  }
  std::string hex() {
    sha_.update(buffer_);
    return sha_.hex();
  }

 private:
  void flush_if_full() {
    if (buffer_.size() < (1u << 16)) return;
    sha_.update(buffer_);
    buffer_.clear();
  }
  Sha256 sha_;
  std::string buffer_;
};

}  // namespace slmi::text
