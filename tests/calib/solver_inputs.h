// Weights and inputs for the solvers' tests.
#pragma once

#include <ATen/ATen.h>

#include <numeric>
#include <vector>

#include "slmi/calib/hessian.h"

namespace slmi::calib {

inline InputStatistics hessian_of(const at::Tensor& x) {
  Hessian hessian(x.size(1), at::kCPU);
  hessian.add(x);
  return hessian.finish("test");
}

/// Inputs whose columns hang together, some much stronger than others: what language models give.
inline at::Tensor correlated(int64_t tokens, int64_t k, uint64_t seed) {
  at::manual_seed(seed);
  const at::Tensor strength = at::exp(at::randn({k}) * 0.7);
  return at::mm(at::randn({tokens, k / 4}), at::randn({k / 4, k})).add_(at::randn({tokens, k})).mul_(strength);
}

inline at::Tensor random_weight(int64_t n, int64_t k, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn({n, k}) * 0.05;
}

inline double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace slmi::calib
