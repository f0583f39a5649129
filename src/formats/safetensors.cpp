// Safetensors reader; the format is described in the header.
#include "slmi/formats/safetensors.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "slmi/base/byte_reader.h"
#include "slmi/base/json.h"

namespace slmi::formats {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

struct Range {
  uint64_t begin = 0, end = 0;
  std::string_view name;
};

/// The bytes that a tensor needs, or empty if that does not fit 63 bits.
std::optional<uint64_t> needed_bytes(Dtype dtype, const Shape& shape) {
  uint64_t out = dtype_bytes(dtype);
  for (int64_t d : shape) {
    if (__builtin_mul_overflow(out, static_cast<uint64_t>(d), &out) || out > INT64_MAX) return std::nullopt;
  }
  return out;
}

uint64_t read_size(const Json& value, const ByteReader& in, std::string_view name, std::string_view what) {
  in.require(value.is_number_unsigned() && value.get<uint64_t>() <= INT64_MAX,
             "tensor '{}': {} holds {}; expected an integer from 0 to 2^63 - 1", name, what, value.dump());
  return value.get<uint64_t>();
}

SafetensorsTensor read_entry(const std::string& name, const Json& entry, const ByteReader& in, Range& range) {
  in.require(entry.is_object(), "tensor '{}': its entry is {}; expected an object", name, entry.type_name());
  for (const auto& item : entry.items()) {
    const bool known = item.key() == "dtype" || item.key() == "shape" || item.key() == "data_offsets";
    in.require(known, "tensor '{}': unknown key '{}'; expected dtype, shape, data_offsets", name, item.key());
  }
  in.require(entry.size() == 3, "tensor '{}': needs dtype, shape and data_offsets", name);
  const Json &dtype = entry.at("dtype"), &shape = entry.at("shape"), &offsets = entry.at("data_offsets");
  in.require(dtype.is_string(), "tensor '{}': dtype is {}; expected a string", name, dtype.type_name());
  const auto parsed = parse_dtype(dtype.get_ref<const std::string&>());
  in.require(parsed.has_value(), "tensor '{}': dtype {} is not known to this program", name, dtype.dump());
  in.require(shape.is_array(), "tensor '{}': shape is {}; expected a list", name, shape.type_name());
  in.require(offsets.is_array() && offsets.size() == 2, "tensor '{}': data_offsets must be [begin, end)", name);

  SafetensorsTensor out;
  out.dtype = *parsed;
  for (const Json& d : shape) out.shape.push_back(static_cast<int64_t>(read_size(d, in, name, "shape")));
  range = {read_size(offsets[0], in, name, "data_offsets"), read_size(offsets[1], in, name, "data_offsets"), name};
  const auto needed = needed_bytes(out.dtype, out.shape);
  in.require(needed.has_value(), "tensor '{}': size of {} {} overflows", name, dtype_name(out.dtype),
             shape_text(out.shape));
  in.require(range.begin <= range.end, "tensor '{}': offsets [{}, {}) run backwards", name, range.begin, range.end);
  in.require(range.end - range.begin == *needed,
             "tensor '{}': offsets [{}, {}) give {} bytes, {} {} needs {}; damaged or cut short, copy it again", name,
             range.begin, range.end, range.end - range.begin, dtype_name(out.dtype), shape_text(out.shape), *needed);
  return out;
}

/// Every byte of the data belongs to exactly one tensor.
void check_cover(std::vector<Range> ranges, uint64_t data_bytes, const ByteReader& in) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t position = 0;
  std::string_view previous = "the header";
  for (const Range& r : ranges) {
    in.require(r.end <= data_bytes, "tensor '{}': ends at byte {} of the data, which has {}; cut short, copy it again",
               r.name, r.end, data_bytes);
    in.require(r.begin >= position, "tensor '{}': offsets [{}, {}) overlap '{}', which ends at {}", r.name, r.begin,
               r.end, previous, position);
    in.require(r.begin == position, "tensor '{}': begins at {}, leaving a hole behind '{}', which ends at {}", r.name,
               r.begin, previous, position);
    position = r.end;
    previous = r.name;
  }
  in.require(position == data_bytes, "the tensors end at byte {} of the data, which has {}: {} bytes too many",
             position, data_bytes, data_bytes - position);
}

std::map<std::string, std::string> read_metadata(const Json& json, const ByteReader& in) {
  std::map<std::string, std::string> out;
  in.require(json.is_object(), "__metadata__ is {}; expected an object of strings", json.type_name());
  for (const auto& [key, value] : json.items()) {
    in.require(value.is_string(), "__metadata__: '{}' is {}; expected a string", key, value.type_name());
    out[key] = value.get<std::string>();
  }
  return out;
}

}  // namespace

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, const std::string& source) {
  ByteReader in(bytes, source);
  in.require(in.size() > 0, "the file is empty; copy it again");
  const uint64_t header_size = in.read_u64("header size");
  in.require(header_size <= kMaxHeaderBytes,
             "header size {} exceeds the limit of {}; damaged, or not a safetensors file", header_size,
             kMaxHeaderBytes);
  const auto header = in.read_bytes(header_size, "header");
  const auto data = bytes.subspan(in.position());
  in.seek(sizeof(uint64_t));  // errors below are about the header
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  in.require(text.starts_with('{'), "header does not start with '{{'; damaged, or not a safetensors file");
  const Json json = parse_json(text, source + ": header");
  in.require(json.is_object(), "header is {}; expected an object", json.type_name());

  SafetensorsFile out;
  out.source_ = source;
  out.file_bytes_ = bytes.size();
  std::vector<Range> ranges;
  for (const auto& item : json.items()) {
    const std::string& name = item.key();
    if (name == "__metadata__") {
      out.metadata_ = read_metadata(item.value(), in);
      continue;
    }
    Range range;
    auto tensor = read_entry(name, item.value(), in, range);
    const auto place = out.tensors_.emplace(name, std::move(tensor)).first;
    range.name = place->first;  // lives as long as the map
    ranges.push_back(range);
  }
  check_cover(ranges, data.size(), in);
  for (const Range& r : ranges) out.tensors_.find(r.name)->second.bytes = data.subspan(r.begin, r.end - r.begin);
  return out;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  auto out = parse(file.bytes(), path.string());
  out.file_ = file;
  return out;
}

const SafetensorsTensor& SafetensorsFile::tensor(std::string_view name) const {
  const auto at = tensors_.find(name);
  require(at != tensors_.end(), ErrorKind::Input, "{}: no tensor '{}'", source_, name);
  return at->second;
}

}  // namespace slmi::formats
