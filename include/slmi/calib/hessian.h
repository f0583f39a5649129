// What GPTQ must know of a layer's inputs: H = mean over tokens of 2 x x^T.
#pragma once

#include <ATen/ATen.h>

#include <string>

namespace slmi::calib {

/// Sums x^T x in f32 over batches, in the order in which they come.
class Hessian {
 public:
  /// f32 [K, K] on `device`.
  Hessian(int64_t k, at::Device device);
  /// x [T, K] in any floating type; K columns next to each other.
  void add(const at::Tensor& x);
  int64_t tokens() const { return tokens_; }
  /// The mean, symmetric. @throws Error{Numeric} naming the layer if it holds NaN or infinity, or no token was added.
  at::Tensor finish(const std::string& name) const;

 private:
  at::Tensor sum_;  // lower triangle, by strips of columns
  int64_t tokens_ = 0;
};

}  // namespace slmi::calib
