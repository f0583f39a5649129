// Times quantization to every GGUF type: M weights a second and the bandwidth of the f32 input, at every SIMD level,
// without and with importances.
//
//   bench_quantize [n k [threads]]     (default 1024 x 2048, one thread)
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "slmi/base/parallel.h"
#include "slmi/base/random.h"
#include "slmi/quant/gguf_codec.h"

namespace {

using slmi::kernels::cpu::SimdLevel;
using slmi::quant::WeightFormat;

constexpr int kRepeats = 5;

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

}  // namespace

int main(int argc, char** argv) {
  const int64_t n = argc > 2 ? std::atoll(argv[1]) : 1024;
  const int64_t k = argc > 2 ? std::atoll(argv[2]) : 2048;
  slmi::set_num_threads(argc > 3 ? std::atoi(argv[3]) : 1);
  slmi::Random random(5);
  std::vector<float> weight(static_cast<size_t>(n * k)), importance(static_cast<size_t>(k));
  for (float& w : weight) w = static_cast<float>(0.02 * random.normal());
  for (float& w : importance) w = static_cast<float>(random.uniform());
  fmt::print("[{}, {}], {} threads; M weights/s | GB/s of f32 read\n", n, k, slmi::num_threads());
  fmt::print("{:6} {:7} {:>18} {:>18}\n", "format", "level", "plain", "importances");
  for (const WeightFormat format : slmi::quant::all_weight_formats()) {
    if (!slmi::quant::can_quantize(format)) continue;
    std::vector<std::byte> out(static_cast<size_t>(slmi::quant::matrix_bytes(format, n, k)));
    for (const SimdLevel level : {SimdLevel::Scalar, SimdLevel::Avx2, SimdLevel::Avx512}) {
      if (level > slmi::kernels::cpu::detect_simd().level) continue;
      const auto rate = [&](std::span<const float> weights) {
        return static_cast<double>(n * k) / median_seconds([&] {
                 slmi::quant::quantize(format, weight, n, k, out, {weights, level});
               });
      };
      const double plain = rate({}), weighted = rate(importance);
      slmi::kernels::cpu::Simd shown;
      shown.level = level;
      fmt::print("{:6} {:7} {:10.1f} {:7.3f} {:10.1f} {:7.3f}\n", slmi::quant::name(format),
                 slmi::kernels::cpu::name(shown), plain * 1e-6, plain * 4e-9, weighted * 1e-6, weighted * 4e-9);
    }
  }
  return 0;
}
