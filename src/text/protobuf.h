// The little of the protocol-buffer wire format that a SentencePiece model needs
// (https://protobuf.dev/programming-guides/encoding).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "slmi/base/error.h"

namespace slmi::text {

/// Walks the fields of one message. Unknown fields are to be passed over by the caller.
class ProtoReader {
 public:
  ProtoReader(std::string_view bytes, const std::string& source) : bytes_(bytes), source_(source) {}

  /// Moves to the next field; false at the end. Then field() and one of the values hold.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    field_ = static_cast<uint32_t>(tag >> 3);
    value_ = 0;
    payload_ = {};
    switch (tag & 7) {
      case 0:
        value_ = varint();
        break;
      case 1:
        payload_ = take(8);
        break;
      case 2:
        payload_ = take(varint());
        break;
      case 5:
        payload_ = take(4);
        break;
      default:
        fail(ErrorKind::Input, "{}: byte {} of a message: wire type {} is unknown; no SentencePiece model, or damaged",
             source_, at_, tag & 7);
    }
    return true;
  }
  uint32_t field() const { return field_; }
  uint64_t value() const { return value_; }
  std::string_view payload() const { return payload_; }
  float as_float() const {
    uint32_t bits = 0;
    if (payload_.size() == sizeof(bits)) std::memcpy(&bits, payload_.data(), sizeof(bits));
    return std::bit_cast<float>(bits);
  }

 private:
  uint64_t varint() {
    uint64_t out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      out |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return out;
    }
    fail(ErrorKind::Input, "{}: byte {} of a message: a number has no end; damaged file?", source_, at_);
  }
  std::string_view take(uint64_t n) {
    require(n <= bytes_.size() - at_, ErrorKind::Input,
            "{}: byte {} of a message: wanted {} bytes, {} are left; cut short?", source_, at_, n, bytes_.size() - at_);
    const std::string_view out = bytes_.substr(at_, n);
    at_ += n;
    return out;
  }

  std::string_view bytes_;
  const std::string& source_;
  size_t at_ = 0;
  uint32_t field_ = 0;
  uint64_t value_ = 0;
  std::string_view payload_;
};

/// Appends fields to a message.
class ProtoWriter {
 public:
  void add_int(uint32_t field, uint64_t value) {
    varint(field << 3);
    varint(value);
  }
  void add_bytes(uint32_t field, std::string_view bytes) {
    varint((field << 3) | 2);
    varint(bytes.size());
    out_ += bytes;
  }
  void add_float(uint32_t field, float value) {
    varint((field << 3) | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    out_.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  }
  const std::string& bytes() const { return out_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>((value & 0x7F) | 0x80);
    out_ += static_cast<char>(value);
  }
  std::string out_;
};

}  // namespace slmi::text
