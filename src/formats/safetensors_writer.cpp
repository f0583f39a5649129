// Safetensors writer; see the header.
#include <algorithm>
#include <numeric>

#include "slmi/base/atomic_file.h"
#include "slmi/base/checked.h"
#include "slmi/base/json.h"
#include "slmi/formats/safetensors.h"

namespace slmi::formats {
namespace {

constexpr uint64_t kDataAlignment = 8;  // so that readers may use the mapping in place

/// The format's own order: widest dtype first, then by name.
std::vector<size_t> file_order(std::span<const OutputTensor> tensors) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (tensors[a].dtype != tensors[b].dtype) return tensors[a].dtype > tensors[b].dtype;
    return tensors[a].name < tensors[b].name;
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const auto& name = tensors[order[i]].name;
    require(name != tensors[order[i - 1]].name, ErrorKind::Internal, "tensor '{}' is to be written twice", name);
  }
  return order;
}

std::string header_text(std::span<const OutputTensor> tensors, std::span<const size_t> order,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t position = 0;
  for (size_t i : order) {
    const auto& t = tensors[i];
    const uint64_t end = checked_add(position, t.size_bytes());
    Json& entry = header[t.name];
    entry["dtype"] = std::string(dtype_name(t.dtype));
    entry["shape"] = t.shape;
    entry["data_offsets"] = {position, end};
    position = end;
  }
  std::string text = header.dump();
  text.resize(checked_align(text.size(), kDataAlignment), ' ');
  return text;
}

}  // namespace

uint64_t OutputTensor::size_bytes() const {
  return checked_mul(dtype_bytes(dtype), num_elements(shape));
}

void write_safetensors(const std::filesystem::path& path, std::span<const OutputTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto order = file_order(tensors);
  const std::string header = header_text(tensors, order, metadata);
  const uint64_t header_size = header.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&header_size, 1)));
  file.write(header);
  for (size_t i : order) {
    const auto& t = tensors[i];
    const auto produced = t.produce ? t.produce() : std::vector<std::byte>{};
    const auto bytes = t.produce ? std::span<const std::byte>(produced) : t.bytes;
    require(bytes.size() == t.size_bytes(), ErrorKind::Internal, "{}: tensor '{}': {} bytes, {} {} needs {}",
            path.string(), t.name, bytes.size(), dtype_name(t.dtype), shape_text(t.shape), t.size_bytes());
    file.write(bytes);
  }
  file.commit();
}

}  // namespace slmi::formats
