// GGUF reader; the format is described in the header.
#include "slmi/formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "slmi/base/byte_reader.h"
#include "slmi/base/checked.h"
#include "slmi/base/json.h"

namespace slmi::formats {
namespace {

constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;        // empty key, type, one byte of value
constexpr uint64_t kMinTensorInfoBytes = 8 + 4 + 4 + 8;  // empty name, no dimensions, type, offset
constexpr uint64_t kMaxNameBytes = 63;                   // ggml's GGML_MAX_NAME holds a NUL too
constexpr uint64_t kMaxDims = 4;                         // ggml's GGML_MAX_DIMS
constexpr uint64_t kDefaultAlignment = 32;

// Bytes of a value by type; 0: String and Array, which carry their own lengths.
constexpr std::array<uint64_t, 13> kValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr std::array<std::string_view, 13> kTypeNames = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                         "bool", "string", "array", "u64", "i64", "f64"};

uint64_t value_bytes(GgufType type) {
  return kValueBytes[static_cast<size_t>(type)];
}

GgufType read_type(ByteReader& in, std::string_view key) {
  const uint32_t id = in.read_u32("value type");
  in.require(id < kValueBytes.size(), "key '{}': value type {} is unknown; expected 0..12", key, id);
  return static_cast<GgufType>(id);
}

std::string_view read_string(ByteReader& in, std::string_view what) {
  const uint64_t length = in.read_u64(what);
  const auto bytes = in.read_bytes(length, what);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string read_name(ByteReader& in, std::string_view what) {
  const auto text = read_string(in, what);
  in.require(!text.empty(), "{} is empty", what);
  in.require(is_valid_utf8(text), "{} is not valid UTF-8", what);
  return std::string(text);
}

void check_bools(const ByteReader& in, std::span<const std::byte> payload, std::string_view key) {
  for (std::byte b : payload) {
    in.require(static_cast<uint8_t>(b) <= 1, "key '{}': bool of value {}; expected 0 or 1", key,
               static_cast<uint8_t>(b));
  }
}

/// Reads `count` elements of value.element_type; nothing is allocated.
void read_elements(ByteReader& in, GgufValue& value, std::string_view key) {
  if (value.element_type == GgufType::String) {
    const uint64_t begin = in.position();
    in.require(value.count <= in.remaining() / sizeof(uint64_t), "key '{}': {} strings, but {} bytes are left", key,
               value.count, in.remaining());
    for (uint64_t i = 0; i < value.count; ++i) read_string(in, key);
    value.payload = in.bytes().subspan(begin, in.position() - begin);
    return;
  }
  const uint64_t size = value_bytes(value.element_type);
  in.require(value.count <= in.remaining() / size, "key '{}': {} values of {}, but {} bytes are left", key, value.count,
             gguf_type_name(value.element_type), in.remaining());
  value.payload = in.read_bytes(value.count * size, key);
  if (value.element_type == GgufType::Bool) check_bools(in, value.payload, key);
}

GgufValue read_value(ByteReader& in, const std::string& key) {
  GgufValue out;
  out.where = fmt::format("{}: key '{}'", in.source(), key);
  out.type = out.element_type = read_type(in, key);
  if (out.is_array()) {
    out.element_type = read_type(in, key);
    in.require(out.element_type != GgufType::Array, "key '{}': an array of arrays; nested arrays are not supported",
               key);
    out.count = in.read_u64("array length");
  }
  read_elements(in, out, key);
  return out;
}

struct TensorInfo {
  std::string name;
  GgufTensor tensor;
  uint64_t offset = 0, size_bytes = 0;
};

Shape read_shape(ByteReader& in, const std::string& name) {
  const uint32_t n_dims = in.read_u32("number of dimensions");
  in.require(n_dims >= 1 && n_dims <= kMaxDims, "tensor '{}': {} dimensions; expected 1..{}", name, n_dims, kMaxDims);
  Shape out(n_dims);
  uint64_t elements = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    const uint64_t d = in.read_u64("dimension");
    in.require(d >= 1, "tensor '{}': dimension {} is 0", name, i);
    in.require(!__builtin_mul_overflow(elements, d, &elements) && elements <= INT64_MAX,
               "tensor '{}': the product of its dimensions overflows (dimension {} is {})", name, i, d);
    out[n_dims - 1 - i] = static_cast<int64_t>(d);  // the file has the contiguous one first
  }
  return out;
}

TensorInfo read_tensor_info(ByteReader& in, uint64_t alignment) {
  TensorInfo out;
  out.name = read_name(in, "tensor name");
  in.require(out.name.size() <= kMaxNameBytes, "tensor name of {} bytes; at most {}", out.name.size(), kMaxNameBytes);
  out.tensor.shape = read_shape(in, out.name);
  const uint32_t type = in.read_u32("tensor type");
  const auto format = quant::weight_format_from_ggml(type);
  in.require(format.has_value(),
             "tensor '{}': ggml type {} is not supported; read are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and "
             "Q2_K to Q6_K: quantize the model again to one of these",
             out.name, type);
  out.tensor.format = *format;
  const int64_t row = out.tensor.shape.back(), block = quant::block_size(*format);
  in.require(row % block == 0, "tensor '{}': rows of {} values are not a multiple of {}'s block of {}", out.name, row,
             quant::name(*format), block);
  const uint64_t blocks = num_elements(out.tensor.shape) / static_cast<uint64_t>(block);
  const bool overflow =
      __builtin_mul_overflow(blocks, static_cast<uint64_t>(quant::block_bytes(*format)), &out.size_bytes);
  in.require(!overflow && out.size_bytes <= INT64_MAX, "tensor '{}': its size overflows", out.name);
  out.offset = in.read_u64("tensor offset");
  in.require(out.offset % alignment == 0, "tensor '{}': offset {} is not a multiple of the alignment {}", out.name,
             out.offset, alignment);
  return out;
}

/// Inside the data and apart from each other.
void check_places(const ByteReader& in, std::vector<TensorInfo>& infos, uint64_t data_bytes) {
  std::sort(infos.begin(), infos.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  uint64_t position = 0;
  std::string_view previous;
  for (const auto& t : infos) {
    in.require(t.offset <= data_bytes && t.size_bytes <= data_bytes - t.offset,
               "tensor '{}': {} bytes from offset {}, but the data have {}; cut short, copy it again", t.name,
               t.size_bytes, t.offset, data_bytes);
    in.require(t.offset >= position, "tensor '{}': offset {} overlaps '{}', which ends at {}", t.name, t.offset,
               previous, position);
    position = t.offset + t.size_bytes;
    previous = t.name;
  }
}

uint32_t read_version(ByteReader& in) {
  in.require(in.size() > 0, "the file is empty; copy it again");
  const auto magic = in.read_bytes(4, "magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
    in.seek(0);
    in.fail("not a GGUF file: magic {:02x}; expected 47 47 55 46",
            fmt::join(std::span(reinterpret_cast<const uint8_t*>(magic.data()), 4), " "));
  }
  const uint32_t version = in.read_u32("version");
  in.require((version & 0xffffu) != 0, "version {:#x}: a big-endian file; convert it to little-endian", version);
  in.require(version == 2 || version == 3, "version {}; expected 3 (or 2): convert the model again", version);
  return version;
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  return kTypeNames[static_cast<size_t>(type)];
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, const std::string& source) {
  ByteReader in(bytes, source);
  GgufFile out;
  out.source_ = source;
  out.file_bytes_ = bytes.size();
  out.version_ = read_version(in);
  const uint64_t num_tensors = in.read_u64("tensor count"), num_keys = in.read_u64("key count");
  in.require(num_keys <= in.remaining() / kMinKeyValueBytes, "key count {}, but only {} bytes are left", num_keys,
             in.remaining());
  for (uint64_t i = 0; i < num_keys; ++i) {
    const auto key = read_name(in, "key");
    auto value = read_value(in, key);
    in.require(out.metadata_.emplace(key, std::move(value)).second, "key '{}' stands twice", key);
  }
  if (const auto* a = out.find("general.alignment")) {
    const int64_t alignment = a->as_int();
    in.require(alignment > 0 && std::has_single_bit(static_cast<uint64_t>(alignment)),
               "general.alignment is {}; expected a power of two", alignment);
    out.alignment_ = static_cast<uint64_t>(alignment);
  } else {
    out.alignment_ = kDefaultAlignment;
  }
  in.require(num_tensors <= in.remaining() / kMinTensorInfoBytes, "tensor count {}, but only {} bytes are left",
             num_tensors, in.remaining());
  std::vector<TensorInfo> infos;
  infos.reserve(num_tensors);
  for (uint64_t i = 0; i < num_tensors; ++i) infos.push_back(read_tensor_info(in, out.alignment_));
  if (infos.empty()) return out;

  const uint64_t data_begin = checked_align(in.position(), out.alignment_);
  in.require(data_begin <= in.size(), "the file ends before its data, which begin at byte {}; cut short, copy it again",
             data_begin);
  const auto data = bytes.subspan(data_begin);
  check_places(in, infos, data.size());
  for (auto& t : infos) {
    t.tensor.bytes = data.subspan(t.offset, t.size_bytes);
    in.require(out.tensors_.emplace(t.name, std::move(t.tensor)).second, "tensor '{}' stands twice", t.name);
  }
  return out;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  auto out = parse(file.bytes(), path.string());
  out.file_ = file;
  return out;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto at = metadata_.find(key);
  return at == metadata_.end() ? nullptr : &at->second;
}

const GgufValue& GgufFile::value(std::string_view key) const {
  const auto* out = find(key);
  require(out != nullptr, ErrorKind::Input, "{}: no key '{}'", source_, key);
  return *out;
}

const GgufTensor& GgufFile::tensor(std::string_view name) const {
  const auto at = tensors_.find(name);
  require(at != tensors_.end(), ErrorKind::Input, "{}: no tensor '{}'", source_, name);
  return at->second;
}

}  // namespace slmi::formats
