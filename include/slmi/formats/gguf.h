// GGUF files, version 3 (and 2, which differs only in its number): typed metadata and named tensors
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
//
//   "GGUF" | u32 version | u64 tensor count | u64 key count | key-values | tensor infos | padding | data
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/mapped_file.h"
#include "slmi/formats/dtype.h"
#include "slmi/quant/weight_format.h"

namespace slmi::formats {

/// Value types, numbered as in the file.
enum class GgufType : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };
std::string_view gguf_type_name(GgufType type);

/// One validated metadata value, not copied out of the file. Accessors throw Error{Input} naming file, key and type.
struct GgufValue {
  GgufType type = GgufType::U32;          // Array: element_type and count describe it
  GgufType element_type = GgufType::U32;  // of an array; else equal to type
  uint64_t count = 1;
  std::span<const std::byte> payload;  // the values; of strings with their lengths
  std::string where;                   // "file.gguf: key 'llama.block_count'", for errors

  bool is_array() const { return type == GgufType::Array; }
  /// Any integer type whose value fits; writers disagree on widths.
  int64_t as_int() const;
  /// f32, f64 or an integer.
  double as_float() const;
  bool as_bool() const;
  std::string_view as_string() const;
  /// Views into the file, count of them.
  std::vector<std::string_view> strings() const;
  /// An array of integers or bools.
  std::vector<int64_t> ints() const;
  /// An array of f32, f64 or integers.
  std::vector<float> floats() const;
};

struct GgufTensor {
  quant::WeightFormat format = quant::WeightFormat::F32;
  Shape shape;  // row-major: [rows, row length], the reverse of the file's dimensions
  std::span<const std::byte> bytes;
};

/// An open file. Copies share the mapping; spans and views live as long as one copy. Thread-safe for reading.
class GgufFile {
 public:
  /// Maps and validates everything: magic, version, counts against the bytes there are, string and array ends, nested
  /// arrays, duplicate keys and tensors, bools, name lengths, dimensions and their product, type, alignment (a power of
  /// two), offsets aligned, inside the file and not overlapping. @throws Error{Input} naming file, byte and key or
  /// tensor.
  static GgufFile open(const std::filesystem::path& path);
  /// The same on bytes in memory, which must outlive the result.
  static GgufFile parse(std::span<const std::byte> bytes, const std::string& source);

  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }
  bool has_key(std::string_view key) const { return find(key) != nullptr; }
  /// nullptr if the key is absent.
  const GgufValue* find(std::string_view key) const;
  /// @throws Error{Input} naming file and key if it is absent.
  const GgufValue& value(std::string_view key) const;
  bool has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// @throws Error{Input} naming file and tensor if it is absent.
  const GgufTensor& tensor(std::string_view name) const;
  const std::string& source() const { return source_; }
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  MappedFile file_;
  std::string source_;
  uint64_t file_bytes_ = 0, alignment_ = 32;
  uint32_t version_ = 3;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
};

/// Collects a file's metadata and tensors, in the order given, and writes it as version 3, little-endian, alignment 32.
class GgufWriter {
 public:
  void add_u32(const std::string& key, uint32_t value);
  void add_u64(const std::string& key, uint64_t value);
  void add_i32(const std::string& key, int32_t value);
  void add_f32(const std::string& key, float value);
  void add_bool(const std::string& key, bool value);
  void add_string(const std::string& key, std::string_view value);
  void add_strings(const std::string& key, std::span<const std::string> values);
  void add_i32s(const std::string& key, std::span<const int32_t> values);
  void add_f32s(const std::string& key, std::span<const float> values);
  /// Copies a value of another file as it is.
  void add_value(const std::string& key, const GgufValue& value);
  /// Takes a tensor's bytes piece by piece, in order.
  using Sink = std::function<void(std::span<const std::byte> piece)>;
  /// `shape` is row-major; `bytes` must live until write().
  void add_tensor(const std::string& name, quant::WeightFormat format, const Shape& shape,
                  std::span<const std::byte> bytes);
  /// The same, but `produce` is called once by write(), when the tensor's turn comes: so a converted model is never in
  /// memory as a whole.
  void add_tensor(const std::string& name, quant::WeightFormat format, const Shape& shape,
                  std::function<void(const Sink& sink)> produce);
  /// Atomic; equal calls give equal bytes. @throws Error{Output}; Error{Internal} for a name or key that stands twice,
  /// a name of 64 bytes or more, or bytes that do not fit the shape; what a producer throws. The old file is then as it
  /// was.
  void write(const std::filesystem::path& path) const;
  bool has_key(std::string_view key) const;

 private:
  struct Item {
    std::string key;
    GgufType type;
    std::string payload;  // as in the file, behind the type
  };
  struct Tensor {
    std::string name;
    quant::WeightFormat format;
    Shape shape;
    uint64_t size_bytes;
    std::function<void(const Sink& sink)> produce;
  };
  void add(const std::string& key, GgufType type, std::string payload);
  Tensor checked_tensor(const std::string& name, quant::WeightFormat format, const Shape& shape) const;
  static void require_size(const Tensor& tensor, uint64_t size_bytes);
  std::string header() const;

  std::vector<Item> items_;
  std::vector<Tensor> tensors_;
};

}  // namespace slmi::formats
