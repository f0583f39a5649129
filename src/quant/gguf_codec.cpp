// GGUF block codecs for whole matrices: checks, splitting over threads, choice of the row quantizer.
#include "slmi/quant/gguf_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "block_quantizers.h"
#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/base/parallel.h"
#include "slmi/kernels/cpu/dequantize.h"

namespace slmi::quant {

using kernels::BlockFormat;
using kernels::cpu::SimdLevel;

BlockFormat block_format(WeightFormat format) {
  switch (format) {
    case WeightFormat::F32:
      return BlockFormat::F32;
    case WeightFormat::F16:
      return BlockFormat::F16;
    case WeightFormat::BF16:
      return BlockFormat::BF16;
    case WeightFormat::Q4_0:
      return BlockFormat::Q4_0;
    case WeightFormat::Q4_1:
      return BlockFormat::Q4_1;
    case WeightFormat::Q5_0:
      return BlockFormat::Q5_0;
    case WeightFormat::Q5_1:
      return BlockFormat::Q5_1;
    case WeightFormat::Q8_0:
      return BlockFormat::Q8_0;
    case WeightFormat::Q2_K:
      return BlockFormat::Q2_K;
    case WeightFormat::Q3_K:
      return BlockFormat::Q3_K;
    case WeightFormat::Q4_K:
      return BlockFormat::Q4_K;
    case WeightFormat::Q5_K:
      return BlockFormat::Q5_K;
    case WeightFormat::Q6_K:
      return BlockFormat::Q6_K;
    case WeightFormat::NF4:
    case WeightFormat::GPTQ:
      break;
  }
  fail(ErrorKind::Internal, "weight format {} has no block of its own", static_cast<int>(format));
}

namespace {

template <class T>
void dequantize_span(WeightFormat format, std::span<const std::byte> src, int64_t n, int64_t k, int64_t row_begin,
                     int64_t row_end, std::span<T> out) {
  const BlockFormat block = block_format(format);
  const int64_t bytes = matrix_bytes(format, n, k);
  require(static_cast<uint64_t>(bytes) == src.size(), ErrorKind::Input, "{} matrix [{}, {}]: {} bytes given, {} needed",
          name(format), n, k, src.size(), bytes);
  require(0 <= row_begin && row_begin <= row_end && row_end <= n, ErrorKind::Internal,
          "{} matrix [{}, {}]: rows [{}, {}) do not exist", name(format), n, k, row_begin, row_end);
  require(out.size() == static_cast<uint64_t>((row_end - row_begin) * k), ErrorKind::Internal,
          "{} matrix [{}, {}]: rows [{}, {}) need {} values of output, {} given", name(format), n, k, row_begin,
          row_end, (row_end - row_begin) * k, out.size());
  require(!is_quantized(format) || reinterpret_cast<uintptr_t>(src.data()) % 2 == 0, ErrorKind::Internal,
          "{} matrix [{}, {}]: starts on an odd address; blocks need an even one", name(format), n, k);
  parallel_for(row_end - row_begin, [&](int64_t begin, int64_t end, int) {
    kernels::cpu::dequantize_rows(block, src.data(), out.data() + begin * k, k, k, row_begin + begin, row_begin + end);
  });
}

void f32_row(const float* x, const float*, std::byte* out, int64_t k, SimdLevel) {
  std::memcpy(out, x, static_cast<size_t>(k) * sizeof(float));
}

template <uint16_t (*kConvert)(float)>
void convert_row(const float* x, const float*, std::byte* out, int64_t k, SimdLevel) {
  for (int64_t i = 0; i < k; ++i) {
    const uint16_t bits = kConvert(x[i]);
    std::memcpy(out + 2 * i, &bits, sizeof(bits));
  }
}

QuantizeRow quantizer_of(WeightFormat format) {
  if (const QuantizeRow small = small_block_quantizer(format); small != nullptr) return small;
  switch (format) {
    case WeightFormat::F32:
      return f32_row;
    case WeightFormat::F16:
      return convert_row<f32_to_f16>;
    case WeightFormat::BF16:
      return convert_row<f32_to_bf16>;
    default:
      return k_block_quantizer(format);
  }
}

/// Largest magnitude as an integer: f32 magnitudes are ordered like their bits, infinity and NaN above all numbers.
uint32_t largest_magnitude(std::span<const float> row) {
  uint32_t largest = 0;
  for (const float w : row) largest = std::max(largest, std::bit_cast<uint32_t>(w) & 0x7fffffffu);
  return largest;
}

/// Values of row r are finite and at most `limit`; what is wrong is said with row and column.
void check_values(std::span<const float> row, int64_t r, float limit, WeightFormat format) {
  if (largest_magnitude(row) <= std::bit_cast<uint32_t>(limit)) return;
  for (size_t c = 0; c < row.size(); ++c) {
    require(std::isfinite(row[c]), ErrorKind::Numeric, "quantizing to {}: value at row {}, column {} is {}",
            name(format), r, c, row[c]);
    require(std::fabs(row[c]) <= limit, ErrorKind::Numeric,
            "quantizing to {}: value at row {}, column {} is {}; its blocks hold at most {} in magnitude", name(format),
            r, c, row[c], limit);
  }
}

void check_importance(std::span<const float> importance, int64_t k, WeightFormat format) {
  if (importance.empty()) return;
  require(importance.size() == static_cast<uint64_t>(k), ErrorKind::Input,
          "quantizing to {}: {} importances given for {} columns", name(format), importance.size(), k);
  for (size_t c = 0; c < importance.size(); ++c) {
    require(std::isfinite(importance[c]) && importance[c] >= 0.0f, ErrorKind::Numeric,
            "quantizing to {}: importance of column {} is {}; expected a number >= 0", name(format), c, importance[c]);
  }
}

}  // namespace

void dequantize(WeightFormat format, std::span<const std::byte> src, int64_t n, int64_t k, int64_t row_begin,
                int64_t row_end, std::span<float> out) {
  dequantize_span(format, src, n, k, row_begin, row_end, out);
}

void dequantize(WeightFormat format, std::span<const std::byte> src, int64_t n, int64_t k, int64_t row_begin,
                int64_t row_end, std::span<uint16_t> out) {
  dequantize_span(format, src, n, k, row_begin, row_end, out);
}

std::vector<float> dequantize(WeightFormat format, std::span<const std::byte> src, int64_t n, int64_t k) {
  const auto bytes = static_cast<uint64_t>(matrix_bytes(format, n, k));
  require(bytes == src.size(), ErrorKind::Input, "{} matrix [{}, {}]: {} bytes given, {} needed", name(format), n, k,
          src.size(), bytes);  // before n * k values are allocated
  std::vector<float> out(static_cast<size_t>(n * k));
  dequantize(format, src, n, k, 0, n, std::span<float>(out));
  return out;
}

bool can_quantize(WeightFormat format) {
  return quantizer_of(format) != nullptr;
}

void quantize(WeightFormat format, std::span<const float> weight, int64_t n, int64_t k, std::span<std::byte> out,
              const QuantizeOptions& options) {
  const QuantizeRow row = quantizer_of(format);
  require(row != nullptr, ErrorKind::Usage, "no quantizer for {} in GGUF blocks", name(format));
  const int64_t bytes = matrix_bytes(format, n, k);
  require(weight.size() == static_cast<uint64_t>(n * k), ErrorKind::Input,
          "{} matrix [{}, {}]: {} values given, {} needed", name(format), n, k, weight.size(), n * k);
  require(out.size() == static_cast<uint64_t>(bytes), ErrorKind::Internal,
          "{} matrix [{}, {}]: {} bytes of output given, {} needed", name(format), n, k, out.size(), bytes);
  check_importance(options.importance, k, format);
  const float* importance = options.importance.empty() ? nullptr : options.importance.data();
  const bool searched = k_block_quantizer(format) != nullptr || importance != nullptr;
  const float limit = searched ? kLargestSearched : std::numeric_limits<float>::max();
  const int64_t stride = n > 0 ? bytes / n : 0;
  parallel_for(n, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const std::span<const float> x = weight.subspan(static_cast<size_t>(r * k), static_cast<size_t>(k));
      if (is_quantized(format)) check_values(x, r, limit, format);
      row(x.data(), importance, out.data() + r * stride, k, options.level);
    }
  });
}

std::vector<std::byte> quantize(WeightFormat format, std::span<const float> weight, int64_t n, int64_t k,
                                const QuantizeOptions& options) {
  std::vector<std::byte> out(static_cast<size_t>(matrix_bytes(format, n, k)));
  quantize(format, weight, n, k, out, options);
  return out;
}

}  // namespace slmi::quant
