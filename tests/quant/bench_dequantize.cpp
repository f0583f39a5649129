// Times dequantization, one thread: values a second and output bandwidth of every format at every SIMD level.
//
//   bench_dequantize [n k]     (default 2048 x 2048: what a forward tile of the 1B model needs)
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "slmi/base/random.h"
#include "slmi/kernels/cpu/dequantize.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/quant/nf4.h"

namespace {

using slmi::kernels::cpu::SimdLevel;
using slmi::quant::WeightFormat;

constexpr int kRepeats = 15;

/// Median seconds of body(); the first, untimed call warms caches and page tables.
template <class Body>
double median_seconds(const Body& body) {
  std::vector<double> times;
  body();
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// The tile is written again and again, as a product that consumes tiles of rows would do; T = float or bf16 bits.
template <class T>
double values_per_second(WeightFormat format, const std::vector<std::byte>& packed, const slmi::quant::Nf4Matrix& nf4,
                         int64_t n, int64_t k, int64_t tile_rows, SimdLevel level) {
  std::vector<T> out(static_cast<size_t>(tile_rows * k));
  const double seconds = median_seconds([&] {
    for (int64_t r = 0; r < n; r += tile_rows) {
      const int64_t end = std::min(n, r + tile_rows);
      if (format == WeightFormat::NF4) {
        slmi::kernels::cpu::nf4_dequantize_rows(nf4.view(), out.data(), k, r, end, level);
      } else {
        slmi::kernels::cpu::dequantize_rows(slmi::quant::block_format(format), packed.data(), out.data(), k, k, r, end,
                                            level);
      }
    }
  });
  return static_cast<double>(n * k) / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t n = argc > 2 ? std::atoll(argv[1]) : 2048;
  const int64_t k = argc > 2 ? std::atoll(argv[2]) : 2048;
  slmi::Random random(5);
  std::vector<float> weight(static_cast<size_t>(n * k));
  for (float& w : weight) w = static_cast<float>(random.uniform() - 0.5);
  const slmi::quant::Nf4Matrix nf4 = slmi::quant::nf4_quantize(weight, n, k);
  fmt::print("[{}, {}] {}, one thread, G values/s: tile of 32 rows reused | whole matrix written\n", n, k,
             slmi::kernels::cpu::name(slmi::kernels::cpu::simd()));
  fmt::print("{:6} {:7} {:>9} {:>9} {:>9} {:>9}\n", "format", "level", "f32 tile", "bf16 tile", "f32 all", "bf16 all");
  for (const WeightFormat format : slmi::quant::all_weight_formats()) {
    if (format == WeightFormat::GPTQ) continue;  // one scalar form
    std::vector<std::byte> packed(static_cast<size_t>(slmi::quant::matrix_bytes(format, n, k)));
    if (slmi::quant::can_quantize(format)) {
      packed = slmi::quant::quantize(format, weight, n, k);
    } else {
      for (std::byte& b : packed) b = static_cast<std::byte>(random.next() & 0x3f);  // any bits with finite scales
    }
    for (const SimdLevel level : {SimdLevel::Scalar, SimdLevel::Avx2, SimdLevel::Avx512}) {
      if (level > slmi::kernels::cpu::detect_simd().level) continue;
      const double f32_tile = values_per_second<float>(format, packed, nf4, n, k, 32, level);
      const double bf16_tile = values_per_second<uint16_t>(format, packed, nf4, n, k, 32, level);
      const double f32_all = values_per_second<float>(format, packed, nf4, n, k, n, level);
      const double bf16_all = values_per_second<uint16_t>(format, packed, nf4, n, k, n, level);
      slmi::kernels::cpu::Simd shown;
      shown.level = level;
      fmt::print("{:6} {:7} {:9.2f} {:9.2f} {:9.2f} {:9.2f}\n", slmi::quant::name(format),
                 slmi::kernels::cpu::name(shown), f32_tile * 1e-9, bf16_tile * 1e-9, f32_all * 1e-9, bf16_all * 1e-9);
    }
  }
  return 0;
}
