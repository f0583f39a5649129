// What GPTQ must know of a layer's inputs: H = mean over tokens of 2 x x^T, and how the unquantized model's inputs
// differ.
#pragma once

#include <ATen/ATen.h>

#include <string>

namespace slmi::calib {

/// f32 [K, K] each, means over tokens.
struct InputStatistics {
  at::Tensor hessian;  // 2 x x^T, symmetric
  at::Tensor drift;    // 2 (x' - x) x^T, x' the same token's input in the unquantized model; undefined if there is none
  at::Tensor residual_drift;  // f32 [N, K] 2 (r' - r) x^T, r what the product is added to; undefined if there is none
};

/// Sums outer products in f32 over batches, in the order in which they come.
class Hessian {
 public:
  /// f32 [K, K] on `device`.
  Hessian(int64_t k, at::Device device);
  /// x [T, K] in any floating type; K columns next to each other.
  void add(const at::Tensor& x);
  /// The same with the unquantized model's inputs [T, K]; always one of the two forms.
  void add(const at::Tensor& x, const at::Tensor& reference);
  /// Beside the latter: what is to be added to the product's sum, [T, N] r' - r.
  void add_residual(const at::Tensor& x, const at::Tensor& difference);
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
