// The weight [W | s*B] of a linear group in the packed form of kernels/cpu/gemm.h, for bf16 products on CPUs that have
// AVX512_BF16. libtorch packs a matrix anew at each product and waits for the slower half of an uneven split; weights
// that are frozen can be packed once.
#pragma once

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// Letters: T tokens, N rows of W, K columns of W, R the sum of the adapters' ranks.
class GemmWeights {
 public:
  /// Whether this machine and these sizes take the packed form: bf16 on a CPU with AVX512_BF16, K, N and R even.
  static bool fit(Compute compute, at::Device device, int64_t n, int64_t k, int64_t rank);

  /// W [N, K] bf16 for forward products; room for R more columns.
  void pack_forward(const at::Tensor& w, int64_t rank);
  /// W for backward products. After set_a, where there are adapters.
  void pack_backward(const at::Tensor& w);
  bool has_forward() const { return forward_.defined(); }
  bool has_backward() const { return backward_.defined(); }

  /// Takes over all adapters' A [R, K], bf16.
  void set_a(const at::Tensor& a);
  /// Takes over s*B of one matrix [n, rank], bf16: rows of W from `row`, columns of the update from `column`. What no
  /// block covers is zero.
  void set_scaled_b(const at::Tensor& scaled_b, int64_t row, int64_t column);

  /// u = x A^T into the last R columns of x_ext [T, K + R]; x [T, K] is x_ext's front, or what dropout left of it.
  void update_input(const at::Tensor& x, const at::Tensor& x_ext) const;
  /// y [T, N] = x_ext [W | s*B]^T; with `fill`, the last columns of x_ext are written first.
  enum class Fill { UpdateInput, Nothing };
  void forward(const at::Tensor& x_ext, const at::Tensor& y, Fill fill) const;
  /// du [T, R] = dy (s*B).
  at::Tensor update_gradient(const at::Tensor& dy) const;
  /// dy W, plus du A where du is given: [T, K].
  at::Tensor input_gradient(const at::Tensor& dy, const at::Tensor& du) const;

 private:
  int64_t n_ = 0, k_ = 0, rank_ = 0;
  at::Tensor forward_;   // [K + R, N] packed: W^T over (s*B)^T
  at::Tensor backward_;  // [N + R, K] packed: W over A
  at::Tensor input_;     // [K, R] packed: A^T
  at::Tensor update_;    // [N, R] packed: s*B
  at::Tensor a_;         // [R, K], kept for a backward form made later
};

}  // namespace slmi::ops
