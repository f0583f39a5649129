// Safetensors files: named tensors in one mapped file (https://github.com/huggingface/safetensors, README "Format").
//
//   u64 LE header_size | header_size bytes of JSON | data.    Tensor offsets count from the start of data.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/mapped_file.h"
#include "slmi/formats/dtype.h"

namespace slmi::formats {

struct SafetensorsTensor {
  Dtype dtype = Dtype::F32;
  Shape shape;
  std::span<const std::byte> bytes;  // into the file; alignment is not guaranteed
};

/// An open file. Copies share the mapping; spans live as long as one copy. Thread-safe for reading.
class SafetensorsFile {
 public:
  /// Maps and validates: header size and syntax, string-only metadata, known dtypes, sizes without overflow, and
  /// offsets that cover the data exactly (no hole, no overlap, nothing behind). @throws Error{Input} naming file, byte,
  /// tensor.
  static SafetensorsFile open(const std::filesystem::path& path);
  /// The same on bytes in memory, which must outlive the result.
  static SafetensorsFile parse(std::span<const std::byte> bytes, const std::string& source);

  /// By name.
  const std::map<std::string, SafetensorsTensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// @throws Error{Input} naming file and tensor if it is absent.
  const SafetensorsTensor& tensor(std::string_view name) const;
  const std::string& source() const { return source_; }
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  MappedFile file_;
  std::string source_;
  uint64_t file_bytes_ = 0;
  std::map<std::string, SafetensorsTensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// One tensor to write. Either `bytes` hold the data, or `produce` is called once, when its turn comes, and its result
/// is freed after the write: so a merged model is never in memory as a whole.
struct OutputTensor {
  std::string name;
  Dtype dtype = Dtype::F32;
  Shape shape;
  std::span<const std::byte> bytes = {};
  std::function<std::vector<std::byte>()> produce = {};

  uint64_t size_bytes() const;
};

/// Writes atomically and deterministically, byte for byte as the `safetensors` package does: widest dtype first, then
/// by name; header padded with spaces so that the data start 8-aligned. The default metadata is what transformers
/// expects.
/// @throws Error{Internal} if bytes do not fit the shape or a name stands twice, Error{Output} if writing fails.
void write_safetensors(const std::filesystem::path& path, std::span<const OutputTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace slmi::formats
