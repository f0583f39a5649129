// Names and sizes of element types; see the header.
#include "slmi/formats/dtype.h"

#include <array>
#include <bit>
#include <cstring>

#include "slmi/base/checked.h"
#include "slmi/base/half.h"

namespace slmi::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "the file formats are little-endian and read in place");

struct DtypeInfo {
  std::string_view name;
  uint64_t bytes;
};
// In the order of the enum.
constexpr std::array<DtypeInfo, 15> kDtypes = {{{"BOOL", 1},
                                                {"U8", 1},
                                                {"I8", 1},
                                                {"F8_E5M2", 1},
                                                {"F8_E4M3", 1},
                                                {"I16", 2},
                                                {"U16", 2},
                                                {"F16", 2},
                                                {"BF16", 2},
                                                {"I32", 4},
                                                {"U32", 4},
                                                {"F32", 4},
                                                {"F64", 8},
                                                {"I64", 8},
                                                {"U64", 8}}};

uint16_t half_at(std::span<const std::byte> bytes, size_t i) {
  uint16_t out;
  std::memcpy(&out, bytes.data() + 2 * i, sizeof(out));
  return out;
}

}  // namespace

uint64_t dtype_bytes(Dtype dtype) {
  return kDtypes[static_cast<size_t>(dtype)].bytes;
}

std::string_view dtype_name(Dtype dtype) {
  return kDtypes[static_cast<size_t>(dtype)].name;
}

std::optional<Dtype> parse_dtype(std::string_view name) {
  for (size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

uint64_t num_elements(std::span<const int64_t> shape) {
  uint64_t out = 1;
  for (int64_t d : shape) {
    require(d >= 0, ErrorKind::Input, "shape {} has a negative dimension", shape_text(shape));
    out = checked_mul(out, static_cast<uint64_t>(d));
  }
  return out;
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<float> floats_from(Dtype dtype, std::span<const std::byte> bytes, std::string_view what) {
  const bool known = dtype == Dtype::F32 || dtype == Dtype::F16 || dtype == Dtype::BF16;
  require(known, ErrorKind::Input, "{}: dtype {}; expected F32, F16 or BF16", what, dtype_name(dtype));
  require(bytes.size() % dtype_bytes(dtype) == 0, ErrorKind::Input, "{}: {} bytes are no whole number of {} values",
          what, bytes.size(), dtype_name(dtype));
  std::vector<float> out(bytes.size() / dtype_bytes(dtype));
  if (dtype == Dtype::F32) {
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  } else if (dtype == Dtype::F16) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = f16_to_f32(half_at(bytes, i));
  } else {
    for (size_t i = 0; i < out.size(); ++i) out[i] = bf16_to_f32(half_at(bytes, i));
  }
  return out;
}

}  // namespace slmi::formats
