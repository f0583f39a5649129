// GGUF block codecs for whole matrices: checks, splitting over threads, and ggml's reference quantizers.
#include "slmi/quant/gguf_codec.h"

#include <array>
#include <cmath>
#include <cstring>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/base/parallel.h"
#include "slmi/kernels/cpu/dequantize.h"

namespace slmi::quant {

using kernels::BlockFormat;
using kernels::BlockQ4_0;
using kernels::BlockQ4_1;
using kernels::BlockQ5_0;
using kernels::BlockQ5_1;
using kernels::BlockQ8_0;
using kernels::kSmallBlock;

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

/// Nibbles of 32 codes, and where `high` is given the fifth bits, in the order of gguf_blocks.h.
void pack_nibbles(const std::array<uint8_t, 32>& q, uint8_t* qs) {
  for (size_t j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] << 4));
}
void pack_fifth_bits(const std::array<uint8_t, 32>& q, uint8_t* qh) {
  for (size_t j = 0; j < 4; ++j) {
    unsigned bits = 0;
    for (size_t i = 0; i < 8; ++i) bits |= static_cast<unsigned>(q[8 * j + i] >> 4) << i;
    qh[j] = static_cast<uint8_t>(bits);
  }
}

float reciprocal(float d) {
  return d != 0.0f ? 1.0f / d : 0.0f;
}

uint8_t clamp_code(float value, int max) {
  const int code = static_cast<int>(value);
  return static_cast<uint8_t>(code < 0 ? 0 : code > max ? max : code);
}

/// Symmetric codes around `levels`: the scale is the signed value of largest magnitude (the first of equals) over
/// -levels, so that this value is met exactly. Returns d.
float symmetric_codes(const float* x, int levels, std::array<uint8_t, 32>& q) {
  float largest = 0.0f;
  for (int i = 0; i < kSmallBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  const float d = largest / static_cast<float>(-levels);
  const float id = reciprocal(d);
  const float half = static_cast<float>(levels) + 0.5f;
  for (size_t i = 0; i < q.size(); ++i) q[i] = clamp_code(x[i] * id + half, 2 * levels - 1);
  return d;
}

struct ScaleAndMin {
  float d;
  float m;
};

/// Codes 0..max between the block's smallest and largest value.
ScaleAndMin affine_codes(const float* x, int max, std::array<uint8_t, 32>& q) {
  float low = x[0];
  float high = x[0];
  for (int i = 1; i < kSmallBlock; ++i) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
  }
  const float d = (high - low) / static_cast<float>(max);
  const float id = reciprocal(d);
  for (size_t i = 0; i < q.size(); ++i) q[i] = clamp_code((x[i] - low) * id + 0.5f, max);
  return {d, low};
}

void quantize_block(const float* x, BlockQ4_0& b) {
  std::array<uint8_t, 32> q;
  b.d = f32_to_f16(symmetric_codes(x, 8, q));
  pack_nibbles(q, b.qs);
}

void quantize_block(const float* x, BlockQ4_1& b) {
  std::array<uint8_t, 32> q;
  const ScaleAndMin s = affine_codes(x, 15, q);
  b.d = f32_to_f16(s.d);
  b.m = f32_to_f16(s.m);
  pack_nibbles(q, b.qs);
}

void quantize_block(const float* x, BlockQ5_0& b) {
  std::array<uint8_t, 32> q;
  b.d = f32_to_f16(symmetric_codes(x, 16, q));
  pack_fifth_bits(q, b.qh);
  pack_nibbles(q, b.qs);
}

void quantize_block(const float* x, BlockQ5_1& b) {
  std::array<uint8_t, 32> q;
  const ScaleAndMin s = affine_codes(x, 31, q);
  b.d = f32_to_f16(s.d);
  b.m = f32_to_f16(s.m);
  pack_fifth_bits(q, b.qh);
  pack_nibbles(q, b.qs);
}

void quantize_block(const float* x, BlockQ8_0& b) {
  float largest = 0.0f;
  for (int i = 0; i < kSmallBlock; ++i) largest = std::fmax(largest, std::fabs(x[i]));
  const float d = largest / 127.0f;
  const float id = reciprocal(d);
  b.d = f32_to_f16(d);
  for (int i = 0; i < kSmallBlock; ++i) b.qs[i] = static_cast<int8_t>(std::round(x[i] * id));
}

template <class Block>
void quantize_row(const float* x, std::byte* out, int64_t k) {
  for (int64_t i = 0; i < k; i += kSmallBlock) {
    Block b;
    quantize_block(x + i, b);
    std::memcpy(out, &b, sizeof(b));
    out += sizeof(b);
  }
}

void f32_row(const float* x, std::byte* out, int64_t k) {
  std::memcpy(out, x, static_cast<size_t>(k) * sizeof(float));
}

template <uint16_t (*kConvert)(float)>
void convert_row(const float* x, std::byte* out, int64_t k) {
  for (int64_t i = 0; i < k; ++i) {
    const uint16_t bits = kConvert(x[i]);
    std::memcpy(out + 2 * i, &bits, sizeof(bits));
  }
}

using QuantizeRow = void (*)(const float* x, std::byte* out, int64_t k);

QuantizeRow quantize_function(WeightFormat format) {
  switch (format) {
    case WeightFormat::F32:
      return f32_row;
    case WeightFormat::F16:
      return convert_row<f32_to_f16>;
    case WeightFormat::BF16:
      return convert_row<f32_to_bf16>;
    case WeightFormat::Q4_0:
      return quantize_row<BlockQ4_0>;
    case WeightFormat::Q4_1:
      return quantize_row<BlockQ4_1>;
    case WeightFormat::Q5_0:
      return quantize_row<BlockQ5_0>;
    case WeightFormat::Q5_1:
      return quantize_row<BlockQ5_1>;
    case WeightFormat::Q8_0:
      return quantize_row<BlockQ8_0>;
    default:
      return nullptr;
  }
}

void check_finite(const float* row, int64_t r, int64_t k, WeightFormat format) {
  for (int64_t c = 0; c < k; ++c) {
    require(std::isfinite(row[c]), ErrorKind::Numeric, "quantizing to {}: value at row {}, column {} is {}",
            name(format), r, c, row[c]);
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
  return quantize_function(format) != nullptr;
}

std::vector<std::byte> quantize(WeightFormat format, std::span<const float> weight, int64_t n, int64_t k) {
  const QuantizeRow row = quantize_function(format);
  require(row != nullptr, ErrorKind::Usage,
          "no quantizer for {}; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 have one", name(format));
  const int64_t bytes = matrix_bytes(format, n, k);
  require(weight.size() == static_cast<uint64_t>(n * k), ErrorKind::Input,
          "{} matrix [{}, {}]: {} values given, {} needed", name(format), n, k, weight.size(), n * k);
  std::vector<std::byte> out(static_cast<size_t>(bytes));
  const int64_t stride = n > 0 ? bytes / n : 0;
  parallel_for(n, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = weight.data() + r * k;
      if (is_quantized(format)) check_finite(x, r, k, format);
      row(x, out.data() + r * stride, k);
    }
  });
  return out;
}

}  // namespace slmi::quant
