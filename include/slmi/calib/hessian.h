// What GPTQ must know of a layer's inputs: H = mean over tokens of 2 x x^T, and how the unquantized model's inputs
// differ.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace slmi::calib {

/// Means over tokens, f32; drifts are undefined if there are none.
struct InputStatistics {
  at::Tensor hessian;         // [K, K] 2 x x^T, symmetric
  at::Tensor drift;           // [K, K] 2 (x' - x) x^T, x' the same token's input in the unquantized model
  at::Tensor residual_drift;  // [N, K] 2 (r' - r) x^T, r what the product is added to
};

/// Sums outer products in f32 over batches, in the order in which they come.
class Hessian {
 public:
  /// f32 [K, K] on `device`.
  Hessian(int64_t k, at::Device device);
  /// x [T, K] in any floating type; K columns next to each other.
  void add(const at::Tensor& x);
  /// The same with the unquantized model's inputs [T, K], and r' - r [T, N] where there is a residual that differs.
  void add(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& residual_difference = {});
  int64_t tokens() const { return tokens_; }
  /// The means; the sums are gone. @throws Error{Numeric} naming the layer if they hold NaN or infinity, or no token
  /// was added.
  InputStatistics finish(const std::string& name);

 private:
  at::Tensor sum_;               // lower triangle, by strips of columns
  at::Tensor drift_, residual_;  // whole; undefined until they are needed
  int64_t tokens_ = 0;
};

}  // namespace slmi::calib
