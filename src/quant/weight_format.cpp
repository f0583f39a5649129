// Names, type numbers and sizes of the weight formats.
#include "slmi/quant/weight_format.h"

#include <array>
#include <string>

#include "slmi/base/error.h"
#include "slmi/kernels/gguf_blocks.h"
#include "slmi/quant/gguf_codec.h"

namespace slmi::quant {

namespace {

struct FormatFacts {
  WeightFormat format;
  std::string_view name;
  int ggml_id;  // -1: GGUF has it not
};

constexpr std::array kFacts = {
    FormatFacts{WeightFormat::F32, "F32", 0},    FormatFacts{WeightFormat::F16, "F16", 1},
    FormatFacts{WeightFormat::BF16, "BF16", 30}, FormatFacts{WeightFormat::NF4, "NF4", -1},
    FormatFacts{WeightFormat::Q4_0, "Q4_0", 2},  FormatFacts{WeightFormat::Q4_1, "Q4_1", 3},
    FormatFacts{WeightFormat::Q5_0, "Q5_0", 6},  FormatFacts{WeightFormat::Q5_1, "Q5_1", 7},
    FormatFacts{WeightFormat::Q8_0, "Q8_0", 8},  FormatFacts{WeightFormat::Q2_K, "Q2_K", 10},
    FormatFacts{WeightFormat::Q3_K, "Q3_K", 11}, FormatFacts{WeightFormat::Q4_K, "Q4_K", 12},
    FormatFacts{WeightFormat::Q5_K, "Q5_K", 13}, FormatFacts{WeightFormat::Q6_K, "Q6_K", 14},
    FormatFacts{WeightFormat::GPTQ, "GPTQ", -1},
};

constexpr bool in_enum_order() {
  for (size_t i = 0; i < kFacts.size(); ++i) {
    if (static_cast<size_t>(kFacts[i].format) != i) return false;
  }
  return true;
}
static_assert(in_enum_order());

constexpr std::array kFormats = [] {
  std::array<WeightFormat, kFacts.size()> out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = kFacts[i].format;
  return out;
}();

const FormatFacts& facts(WeightFormat format) {
  return kFacts.at(static_cast<size_t>(format));
}

/// Codes of eight weights, and their bytes.
constexpr int64_t kGptqWord = 8, kGptqWordBytes = 4;

char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

}  // namespace

std::span<const WeightFormat> all_weight_formats() {
  return kFormats;
}

std::string_view name(WeightFormat format) {
  return facts(format).name;
}

WeightFormat parse_weight_format(std::string_view text) {
  std::string wanted;
  for (char c : text) wanted += upper(c);
  std::string known;
  for (const FormatFacts& f : kFacts) {
    if (f.name == wanted) return f.format;
    known += known.empty() ? "" : ", ";
    known += f.name;
  }
  fail(ErrorKind::Usage, "weight format '{}' is unknown; expected one of {}", text, known);
}

std::optional<uint32_t> ggml_type_id(WeightFormat format) {
  const int id = facts(format).ggml_id;
  if (id < 0) return std::nullopt;
  return static_cast<uint32_t>(id);
}

std::optional<WeightFormat> weight_format_from_ggml(uint32_t type_id) {
  for (const FormatFacts& f : kFacts) {
    if (f.ggml_id >= 0 && static_cast<uint32_t>(f.ggml_id) == type_id) return f.format;
  }
  return std::nullopt;
}

bool is_quantized(WeightFormat format) {
  return block_size(format) > 1;
}

bool has_planes(WeightFormat format) {
  return format == WeightFormat::NF4 || format == WeightFormat::GPTQ;
}

int64_t block_size(WeightFormat format) {
  if (format == WeightFormat::GPTQ) return kGptqWord;
  return format == WeightFormat::NF4 ? 64 : kernels::block_size(block_format(format));
}

int64_t block_bytes(WeightFormat format) {
  if (format == WeightFormat::GPTQ) return kGptqWordBytes;
  return format == WeightFormat::NF4 ? 32 : kernels::block_bytes(block_format(format));
}

int64_t row_bytes(WeightFormat format, int64_t k) {
  return matrix_bytes(format, 1, k);
}

int64_t matrix_bytes(WeightFormat format, int64_t n, int64_t k) {
  require(n >= 0 && k >= 0, ErrorKind::Input, "{} matrix [{}, {}]: a dimension is negative", name(format), n, k);
  int64_t values = 0;
  require(!__builtin_mul_overflow(n, k, &values), ErrorKind::Input, "{} matrix [{}, {}]: size overflows", name(format),
          n, k);
  if (format == WeightFormat::NF4) {
    require(values % 2 == 0, ErrorKind::Input, "NF4 matrix [{}, {}]: the number of values must be even", n, k);
    return values / 2;
  }
  const int64_t block = block_size(format);
  require(k % block == 0, ErrorKind::Input, "{} matrix [{}, {}]: row length {} is not a multiple of the block of {}",
          name(format), n, k, k, block);
  int64_t bytes = 0;
  require(!__builtin_mul_overflow(values / block, block_bytes(format), &bytes), ErrorKind::Input,
          "{} matrix [{}, {}]: size overflows", name(format), n, k);
  return bytes;
}

}  // namespace slmi::quant
