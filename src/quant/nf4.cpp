// NF4 codec: quantization by bitsandbytes' rules, checks, and dequantization through the kernels.
#include "slmi/quant/nf4.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/kernels/cpu/dequantize.h"
#include "slmi/kernels/dynamic_map.h"

namespace slmi::quant {

using kernels::kNf4Block;
using kernels::kNf4NestedBlock;

namespace {

/// Smallest absmax that is divided by; below it a block counts as zero (bitsandbytes clamps there).
constexpr float kNf4LeastAbsmax = 1e-38f;

/// Points of the grid over [-1, 1] that scaled second-level values are rounded to before they take a code: point i is
/// -1 + 2i / (points - 1), in f32. Of bitsandbytes' CPU code alone.
constexpr int kNf4GridPoints = 65536;

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

int64_t checked_values(int64_t n, int64_t k, std::string_view what) {
  int64_t values = 0;
  require(n >= 0 && k >= 0 && !__builtin_mul_overflow(n, k, &values), ErrorKind::Input,
          "{}: NF4 matrix [{}, {}]: no such shape", what, n, k);
  return values;
}

uint8_t nearest_code(float scaled) {
  int code = 0;
  for (const float border : kernels::kNf4Borders)
    code += scaled > border ? 1 : 0;  // no branch: the compiler makes vectors of it
  return static_cast<uint8_t>(code);
}

/// Largest magnitude; infinite or NaN if any value is. Compared as integers: f32 magnitudes are ordered like their
/// bits, NaN above all, and the loop becomes vectors.
float block_absmax(std::span<const float> block) {
  uint32_t largest = 0;
  for (const float w : block) largest = std::max(largest, std::bit_cast<uint32_t>(w) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

/// A full block. The stored absmax stays as it is, zero or tiny; only the divisor is bounded.
float quantize_full_block(std::span<const float> block, float absmax, uint8_t* codes) {
  const float reciprocal = 1.0f / std::max(absmax, kNf4LeastAbsmax);
  std::array<uint8_t, kNf4Block> q;
  for (size_t i = 0; i < q.size(); ++i) q[i] = nearest_code(std::clamp(block[i] * reciprocal, -1.0f, 1.0f));
  for (size_t i = 0; i < q.size(); i += 2) codes[i / 2] = static_cast<uint8_t>((q[i] << 4) | q[i + 1]);
  return absmax;
}

/// The short last block: here bitsandbytes divides, and bounds the stored absmax too. An odd last value is paired with
/// a zero.
float quantize_short_block(std::span<const float> block, float largest, uint8_t* codes) {
  const float absmax = std::max(largest, kNf4LeastAbsmax);
  for (size_t i = 0; i < block.size(); i += 2) {
    const uint8_t high = nearest_code(std::clamp(block[i] / absmax, -1.0f, 1.0f));
    const uint8_t low =
        i + 1 < block.size() ? nearest_code(std::clamp(block[i + 1] / absmax, -1.0f, 1.0f)) : nearest_code(0.0f);
    codes[i / 2] = static_cast<uint8_t>((high << 4) | low);
  }
  return absmax;
}

[[noreturn]] void fail_not_finite(std::span<const float> block, int64_t first, int64_t k) {
  size_t i = 0;
  while (std::isfinite(block[i])) ++i;
  const int64_t at = first + static_cast<int64_t>(i);
  fail(ErrorKind::Numeric, "quantizing to NF4: value at row {}, column {} is {}", at / k, at % k, block[i]);
}

/// Second-level codes of scaled values: bitsandbytes rounds to a grid of 65,536 points over [-1, 1] first and takes the
/// nearest entry of the map (a tie goes down) to the grid point, so tiny values are coarser than the map allows.
std::vector<uint8_t> make_grid_codes() {
  const auto borders = kernels::borders_of(kernels::dynamic_map());
  std::vector<uint8_t> codes(kNf4GridPoints);
  size_t code = 0;
  for (int i = 0; i < kNf4GridPoints; ++i) {
    const float value = -1.0f + (2.0f * static_cast<float>(i)) / static_cast<float>(kNf4GridPoints - 1);
    while (code < borders.size() && borders[code] < value) ++code;
    codes[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
  }
  return codes;
}

uint8_t nearest_scale_code(float scaled) {
  static const std::vector<uint8_t> codes = make_grid_codes();
  const float bounded = std::clamp(scaled, -1.0f, 1.0f);
  const float at = (bounded + 1.0f) * 0.5f * static_cast<float>(kNf4GridPoints - 1) + 0.5f;
  return codes[static_cast<size_t>(at)];
}

}  // namespace

int64_t Nf4Matrix::num_blocks() const {
  return ceil_div(n * k, kNf4Block);
}

int64_t Nf4Matrix::bytes() const {
  return static_cast<int64_t>(codes.size() + absmax.size() * sizeof(float) + absmax_codes.size() +
                              absmax2.size() * sizeof(float) + (doubly_quantized() ? sizeof(float) : 0));
}

kernels::Nf4View Nf4Matrix::view() const {
  kernels::Nf4View out;
  out.codes = codes.data();
  out.absmax = doubly_quantized() ? nullptr : absmax.data();
  out.absmax_codes = absmax_codes.data();
  out.absmax2 = absmax2.data();
  out.offset = offset;
  out.n = n;
  out.k = k;
  return out;
}

Nf4Matrix nf4_quantize(std::span<const float> weight, int64_t n, int64_t k, const Nf4Options& options) {
  const int64_t values = checked_values(n, k, "quantizing");
  require(weight.size() == static_cast<uint64_t>(values), ErrorKind::Input,
          "quantizing to NF4: [{}, {}] needs {} values, {} given", n, k, values, weight.size());
  Nf4Matrix out;
  out.n = n;
  out.k = k;
  out.codes.resize(static_cast<size_t>(ceil_div(values, 2)));
  std::vector<float> absmax(static_cast<size_t>(ceil_div(values, kNf4Block)));
  parallel_for(static_cast<int64_t>(absmax.size()), [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * kNf4Block;
      const auto size = static_cast<size_t>(std::min(kNf4Block, values - first));
      const std::span<const float> block = weight.subspan(static_cast<size_t>(first), size);
      uint8_t* codes = out.codes.data() + first / 2;
      const float largest = block_absmax(block);
      if (!std::isfinite(largest)) fail_not_finite(block, first, k);
      const float scale =
          size == kNf4Block ? quantize_full_block(block, largest, codes) : quantize_short_block(block, largest, codes);
      absmax[static_cast<size_t>(b)] = scale;
    }
  });
  if (options.scales == Nf4Scales::Plain || absmax.empty()) {
    out.absmax = std::move(absmax);
    return out;
  }
  out.offset = options.offset.value_or(scales_mean(absmax));
  NestedScales nested = quantize_scales(absmax, out.offset);
  out.absmax_codes = std::move(nested.codes);
  out.absmax2 = std::move(nested.absmax2);
  return out;
}

NestedScales quantize_scales(std::span<const float> absmax, float offset) {
  NestedScales out;
  out.codes.resize(absmax.size());
  for (size_t begin = 0; begin < absmax.size(); begin += kNf4NestedBlock) {
    const std::span<const float> block =
        absmax.subspan(begin, std::min<size_t>(kNf4NestedBlock, absmax.size() - begin));
    float largest = 0.0f;
    for (const float a : block)
      largest = std::fabs(a - offset) > largest || std::isnan(a) ? std::fabs(a - offset) : largest;
    require(std::isfinite(largest) && std::isfinite(offset), ErrorKind::Numeric,
            "quantizing NF4 scales: a scale from {} on, or the offset {}, is not finite", begin, offset);
    out.absmax2.push_back(largest);
    if (largest == 0.0f) continue;  // codes stay 0, as bitsandbytes leaves them: the product is a zero
    const float reciprocal = 1.0f / largest;
    for (size_t i = 0; i < block.size(); ++i)
      out.codes[begin + i] = nearest_scale_code((block[i] - offset) * reciprocal);
  }
  return out;
}

float scales_mean(std::span<const float> absmax) {
  double sum = 0.0;
  for (const float a : absmax) sum += static_cast<double>(a);
  return absmax.empty() ? 0.0f : static_cast<float>(sum / static_cast<double>(absmax.size()));
}

void nf4_check(const Nf4Matrix& matrix, std::string_view what) {
  const int64_t values = checked_values(matrix.n, matrix.k, what);
  const int64_t blocks = ceil_div(values, kNf4Block);
  const auto fits = [&](std::string_view plane, size_t got, int64_t want) {
    require(got == static_cast<uint64_t>(want), ErrorKind::Input,
            "{}: NF4 matrix [{}, {}]: {} has {} entries, needs {}", what, matrix.n, matrix.k, plane, got, want);
  };
  fits("codes", matrix.codes.size(), ceil_div(values, 2));
  const bool nested = matrix.doubly_quantized();
  fits("absmax", matrix.absmax.size(), nested ? 0 : blocks);
  fits("absmax_codes", matrix.absmax_codes.size(), nested ? blocks : 0);
  fits("absmax2", matrix.absmax2.size(), nested ? ceil_div(blocks, kNf4NestedBlock) : 0);
}

void nf4_dequantize(const Nf4Matrix& matrix, std::span<float> out) {
  nf4_check(matrix, "dequantizing");
  require(out.size() == static_cast<uint64_t>(matrix.n * matrix.k), ErrorKind::Input,
          "dequantizing NF4: [{}, {}] needs {} values of output, {} given", matrix.n, matrix.k, matrix.n * matrix.k,
          out.size());
  const kernels::Nf4View view = matrix.view();
  parallel_for(matrix.n, [&](int64_t begin, int64_t end, int) {
    kernels::cpu::nf4_dequantize_rows(view, out.data() + begin * matrix.k, matrix.k, begin, end);
  });
}

}  // namespace slmi::quant
