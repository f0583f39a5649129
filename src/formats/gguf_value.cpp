// Typed access to GGUF metadata values; the bytes were validated when the file was opened.
#include <cstring>

#include "slmi/base/error.h"
#include "slmi/formats/gguf.h"

namespace slmi::formats {
namespace {

template <class T>
T load(std::span<const std::byte> payload, uint64_t index) {
  T out;
  std::memcpy(&out, payload.data() + index * sizeof(T), sizeof(T));
  return out;
}

[[noreturn]] void fail_type(const GgufValue& value, std::string_view wanted) {
  const auto found = value.is_array() ? fmt::format("an array of {}", gguf_type_name(value.element_type))
                                      : std::string(gguf_type_name(value.type));
  fail(ErrorKind::Input, "{} is {}; expected {}", value.where, found, wanted);
}

int64_t int_at(const GgufValue& value, uint64_t i, std::string_view wanted) {
  switch (value.element_type) {
    case GgufType::U8:
    case GgufType::Bool:
      return load<uint8_t>(value.payload, i);
    case GgufType::I8:
      return load<int8_t>(value.payload, i);
    case GgufType::U16:
      return load<uint16_t>(value.payload, i);
    case GgufType::I16:
      return load<int16_t>(value.payload, i);
    case GgufType::U32:
      return load<uint32_t>(value.payload, i);
    case GgufType::I32:
      return load<int32_t>(value.payload, i);
    case GgufType::I64:
      return load<int64_t>(value.payload, i);
    case GgufType::U64: {
      const auto out = load<uint64_t>(value.payload, i);
      require(out <= INT64_MAX, ErrorKind::Input, "{} is {}; expected less than 2^63", value.where, out);
      return static_cast<int64_t>(out);
    }
    default:
      fail_type(value, wanted);
  }
}

double float_at(const GgufValue& value, uint64_t i, std::string_view wanted) {
  if (value.element_type == GgufType::F32) return load<float>(value.payload, i);
  if (value.element_type == GgufType::F64) return load<double>(value.payload, i);
  return static_cast<double>(int_at(value, i, wanted));
}

}  // namespace

int64_t GgufValue::as_int() const {
  if (is_array() || type == GgufType::Bool) fail_type(*this, "an integer");
  return int_at(*this, 0, "an integer");
}

double GgufValue::as_float() const {
  if (is_array() || type == GgufType::Bool) fail_type(*this, "a number");
  return float_at(*this, 0, "a number");
}

bool GgufValue::as_bool() const {
  if (type != GgufType::Bool) fail_type(*this, "a bool");
  return load<uint8_t>(payload, 0) != 0;
}

std::string_view GgufValue::as_string() const {
  if (type != GgufType::String) fail_type(*this, "a string");
  return {reinterpret_cast<const char*>(payload.data()) + sizeof(uint64_t), payload.size() - sizeof(uint64_t)};
}

std::vector<std::string_view> GgufValue::strings() const {
  if (!is_array() || element_type != GgufType::String) fail_type(*this, "an array of strings");
  std::vector<std::string_view> out(count);
  uint64_t position = 0;
  for (auto& text : out) {
    uint64_t length;
    std::memcpy(&length, payload.data() + position, sizeof(length));
    position += sizeof(length);
    text = {reinterpret_cast<const char*>(payload.data()) + position, length};
    position += length;
  }
  return out;
}

std::vector<int64_t> GgufValue::ints() const {
  if (!is_array()) fail_type(*this, "an array of integers");
  if (element_type == GgufType::String) fail_type(*this, "an array of integers");
  std::vector<int64_t> out(count);
  for (uint64_t i = 0; i < count; ++i) out[i] = int_at(*this, i, "an array of integers");
  return out;
}

std::vector<float> GgufValue::floats() const {
  if (!is_array() || element_type == GgufType::String) fail_type(*this, "an array of numbers");
  std::vector<float> out(count);
  for (uint64_t i = 0; i < count; ++i) out[i] = static_cast<float>(float_at(*this, i, "an array of numbers"));
  return out;
}

}  // namespace slmi::formats
