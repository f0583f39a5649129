// Probes; see the header.
#include "slmi/ceilings/probe.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace slmi::ceilings {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double matrix_rate_gflops(ops::Compute compute, at::Device device) {
  constexpr int64_t kM = 1024, kN = 2048, kK = 2048;
  constexpr double kBudget_s = 0.4;
  const auto options = at::TensorOptions().dtype(ops::scalar_type(compute)).device(device);
  const at::Tensor x = at::randn({kM, kK}, at::TensorOptions().device(device)).to(options);
  const at::Tensor w = at::randn({kN, kK}, at::TensorOptions().device(device)).to(options);
  at::Tensor y = at::empty({kM, kN}, options);
  double best = 1e30;
  const double start = now_s();
  for (int i = 0; i < 50 && (i < 3 || now_s() - start < kBudget_s); ++i) {
    const double t = now_s();
    at::mm_out(y, x, w.t());
    (void)y[0][0].item<float>();  // waits for a device
    best = std::min(best, now_s() - t);
  }
  return 2.0 * kM * kN * kK / best / 1e9;
}

double read_bandwidth_gb_per_s() {
  constexpr int64_t kWords = int64_t{1} << 26;  // 512 MiB: beyond any cache
  constexpr int kRepeats = 5;
  const at::Tensor buffer = at::ones({kWords}, at::kLong);
  const auto* data = buffer.data_ptr<int64_t>();
  double best = 1e30;
  volatile int64_t sink = 0;
  for (int r = 0; r < kRepeats; ++r) {
    const double t = now_s();
    at::parallel_for(0, kWords, kWords / at::get_num_threads(), [&](int64_t begin, int64_t end) {
      int64_t sums[8] = {};
      for (int64_t i = begin; i + 8 <= end; i += 8)
        for (int j = 0; j < 8; ++j) sums[j] += data[i + j];
      for (const int64_t s : sums) sink = sink + s;
    });
    best = std::min(best, now_s() - t);
  }
  return static_cast<double>(kWords) * 8 / best / 1e9;
}

}  // namespace slmi::ceilings
