// Probes; see the header.
#include "slmi/ceilings/probe.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <chrono>
#include <cstdint>

namespace slmi::ceilings {
namespace {

double steady_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

MatrixProbe probe_of(at::Device device) {
  return device.is_cpu() ? MatrixProbe{} : MatrixProbe{8192, 8192, 8192, 5, 0.4};
}

double matrix_rate_gflops(ops::Compute compute, at::Device device) {
  return matrix_rate_gflops(compute, device, probe_of(device));
}

double matrix_rate_gflops(ops::Compute compute, at::Device device, const MatrixProbe& probe,
                          const std::function<double()>& now_s) {
  const std::function<double()> clock_s = now_s ? now_s : steady_s;
  const auto [m, n, k, products, budget_s] = probe;
  const auto options = at::TensorOptions().dtype(ops::scalar_type(compute)).device(device);
  const at::Tensor x = at::randn({m, k}, at::TensorOptions().device(device)).to(options);
  const at::Tensor w = at::randn({n, k}, at::TensorOptions().device(device)).to(options);
  at::Tensor y = at::empty({m, n}, options);
  double best = 1e30;
  const double start = clock_s();
  for (int i = 0; i < 50 && (i < 3 || clock_s() - start < budget_s); ++i) {
    const double t = clock_s();
    for (int64_t p = 0; p < products; ++p) at::mm_out(y, x, w.t());
    (void)y[0][0].item<float>();  // waits for a device
    best = std::min(best, (clock_s() - t) / static_cast<double>(products));
  }
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / best / 1e9;
}

double read_bandwidth_gb_per_s() {
  constexpr int64_t kWords = int64_t{1} << 26;  // 512 MiB: beyond any cache
  constexpr int kRepeats = 5;
  const at::Tensor buffer = at::ones({kWords}, at::kLong);
  const auto* data = buffer.data_ptr<int64_t>();
  double best = 1e30;
  volatile int64_t sink = 0;
  for (int r = 0; r < kRepeats; ++r) {
    const double t = steady_s();
    at::parallel_for(0, kWords, kWords / at::get_num_threads(), [&](int64_t begin, int64_t end) {
      int64_t sums[8] = {};
      for (int64_t i = begin; i + 8 <= end; i += 8)
        for (int j = 0; j < 8; ++j) sums[j] += data[i + j];
      for (const int64_t s : sums) sink = sink + s;
    });
    best = std::min(best, steady_s() - t);
  }
  return static_cast<double>(kWords) * 8 / best / 1e9;
}

double copy_bandwidth_gb_per_s(at::Device device) {
  constexpr int64_t kBytes = int64_t{1} << 29;  // beyond any cache; twice that fits the smallest GPUs
  constexpr int kRounds = 5, kCopies = 20;      // many copies a round: waiting costs as much as a tenth of one
  const at::Tensor from = at::zeros({kBytes}, at::TensorOptions().dtype(at::kByte).device(device));
  at::Tensor to = at::empty_like(from);
  double best = 1e30;
  for (int r = 0; r <= kRounds; ++r) {
    const double t = steady_s();
    for (int c = 0; c < kCopies; ++c) to.copy_(from);
    (void)to[0].item<uint8_t>();  // waits for the device
    if (r > 0) best = std::min(best, steady_s() - t);
  }
  return 2.0 * kCopies * static_cast<double>(kBytes) / best / 1e9;
}

}  // namespace slmi::ceilings
