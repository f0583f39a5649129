// GGUF writer; see the header.
#include <algorithm>

#include "slmi/base/atomic_file.h"
#include "slmi/base/checked.h"
#include "slmi/formats/gguf.h"

namespace slmi::formats {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kAlignment = 32;  // the format's default, so that no key is needed
constexpr size_t kMaxNameBytes = 63;

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_string(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out.append(text);
}

template <class T>
std::string one(T value) {
  std::string out;
  append(out, value);
  return out;
}

template <class T>
std::string array_of(GgufType type, std::span<const T> values) {
  std::string out;
  append(out, static_cast<uint32_t>(type));
  append<uint64_t>(out, values.size());
  for (T v : values) append(out, v);
  return out;
}

}  // namespace

void GgufWriter::add(const std::string& key, GgufType type, std::string payload) {
  require(!has_key(key), ErrorKind::Internal, "GGUF key '{}' is to be written twice", key);
  items_.push_back({key, type, std::move(payload)});
}

bool GgufWriter::has_key(std::string_view key) const {
  return std::any_of(items_.begin(), items_.end(), [&](const Item& i) { return i.key == key; });
}

void GgufWriter::add_u32(const std::string& key, uint32_t value) {
  add(key, GgufType::U32, one(value));
}
void GgufWriter::add_u64(const std::string& key, uint64_t value) {
  add(key, GgufType::U64, one(value));
}
void GgufWriter::add_i32(const std::string& key, int32_t value) {
  add(key, GgufType::I32, one(value));
}
void GgufWriter::add_f32(const std::string& key, float value) {
  add(key, GgufType::F32, one(value));
}
void GgufWriter::add_bool(const std::string& key, bool value) {
  add(key, GgufType::Bool, one(static_cast<uint8_t>(value ? 1 : 0)));
}

void GgufWriter::add_string(const std::string& key, std::string_view value) {
  std::string payload;
  append_string(payload, value);
  add(key, GgufType::String, std::move(payload));
}

void GgufWriter::add_strings(const std::string& key, std::span<const std::string> values) {
  std::string payload = one(static_cast<uint32_t>(GgufType::String));
  append<uint64_t>(payload, values.size());
  for (const auto& v : values) append_string(payload, v);
  add(key, GgufType::Array, std::move(payload));
}

void GgufWriter::add_i32s(const std::string& key, std::span<const int32_t> values) {
  add(key, GgufType::Array, array_of(GgufType::I32, values));
}

void GgufWriter::add_f32s(const std::string& key, std::span<const float> values) {
  add(key, GgufType::Array, array_of(GgufType::F32, values));
}

void GgufWriter::add_value(const std::string& key, const GgufValue& value) {
  std::string payload;
  if (value.is_array()) {
    append(payload, static_cast<uint32_t>(value.element_type));
    append<uint64_t>(payload, value.count);
  }
  payload.append(reinterpret_cast<const char*>(value.payload.data()), value.payload.size());
  add(key, value.type, std::move(payload));
}

GgufWriter::Tensor GgufWriter::checked_tensor(const std::string& name, quant::WeightFormat format,
                                              const Shape& shape) const {
  require(!name.empty() && name.size() <= kMaxNameBytes, ErrorKind::Internal,
          "GGUF tensor name '{}' has {} bytes; 1 to {} are allowed", name, name.size(), kMaxNameBytes);
  require(!shape.empty() && quant::ggml_type_id(format).has_value(), ErrorKind::Internal,
          "GGUF tensor '{}': {} {} cannot be stored", name, quant::name(format), shape_text(shape));
  const bool twice = std::any_of(tensors_.begin(), tensors_.end(), [&](const Tensor& t) { return t.name == name; });
  require(!twice, ErrorKind::Internal, "GGUF tensor '{}' is to be written twice", name);
  const auto rows = static_cast<int64_t>(num_elements(std::span(shape).first(shape.size() - 1)));
  return {name, format, shape, static_cast<uint64_t>(quant::matrix_bytes(format, rows, shape.back())), {}};
}

void GgufWriter::add_tensor(const std::string& name, quant::WeightFormat format, const Shape& shape,
                            std::function<void(const Sink& sink)> produce) {
  tensors_.push_back(checked_tensor(name, format, shape));
  tensors_.back().produce = std::move(produce);
}

void GgufWriter::add_tensor(const std::string& name, quant::WeightFormat format, const Shape& shape,
                            std::span<const std::byte> bytes) {
  Tensor tensor = checked_tensor(name, format, shape);
  require_size(tensor, bytes.size());
  tensor.produce = [bytes](const Sink& sink) { sink(bytes); };
  tensors_.push_back(std::move(tensor));
}

void GgufWriter::require_size(const Tensor& tensor, uint64_t size_bytes) {
  require(size_bytes == tensor.size_bytes, ErrorKind::Internal, "GGUF tensor '{}': {} bytes, {} {} needs {}",
          tensor.name, size_bytes, quant::name(tensor.format), shape_text(tensor.shape), tensor.size_bytes);
}

std::string GgufWriter::header() const {
  std::string out = "GGUF";
  append(out, kVersion);
  append<uint64_t>(out, tensors_.size());
  append<uint64_t>(out, items_.size());
  for (const Item& item : items_) {
    append_string(out, item.key);
    append(out, static_cast<uint32_t>(item.type));
    out += item.payload;
  }
  uint64_t offset = 0;
  for (const Tensor& t : tensors_) {
    append_string(out, t.name);
    append(out, static_cast<uint32_t>(t.shape.size()));
    for (size_t i = t.shape.size(); i > 0; --i) append(out, static_cast<uint64_t>(t.shape[i - 1]));
    append(out, *quant::ggml_type_id(t.format));
    append(out, offset);
    offset = checked_align(checked_add(offset, t.size_bytes), kAlignment);
  }
  out.resize(checked_align(out.size(), kAlignment), '\0');
  return out;
}

void GgufWriter::write(const std::filesystem::path& path) const {
  AtomicFile file(path);
  file.write(header());
  for (const Tensor& t : tensors_) {
    uint64_t written = 0;
    t.produce([&](std::span<const std::byte> piece) {
      written += piece.size();
      file.write(piece);
    });
    require_size(t, written);
    file.write(std::string(checked_align(written, kAlignment) - written, '\0'));
  }
  file.commit();
}

}  // namespace slmi::formats
