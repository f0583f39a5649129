// Rotary position embedding in the rotate-half layout (pair = elements i and i + E/2 of a head).
#pragma once

#include <vector>

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// cos and sin of position x inverse frequency. Angles are f32 products, as in transformers: angles in f64 are further
/// from it.
class RopeTable {
 public:
  RopeTable() = default;
  /// inv_freq: E/2 values (Su et al. 2021, arXiv:2104.09864, with the model's scaling applied).
  RopeTable(const std::vector<float>& inv_freq, at::Device device);
  /// Makes sure that positions [0, n) are in the table. Not thread-safe.
  void reserve(int64_t n);
  const at::Tensor& cos() const { return cos_; }  // f32 [capacity, E/2]
  const at::Tensor& sin() const { return sin_; }

 private:
  at::Tensor inv_freq_, cos_, sin_;
};

enum class RopeDirection { Forward, Inverse };  // Inverse: the gradient, a rotation by the negative angle

/// Rotates x [T, num_heads * E] in place (rows may be strided); positions i32 [T].
void rope_apply(const at::Tensor& x, int64_t num_heads, const RopeTable& table, const at::Tensor& positions,
                RopeDirection direction);
/// The same into out [T, num_heads * E], of x's type, rows strided too; x stays as it is.
void rope_into(const at::Tensor& x, int64_t num_heads, const RopeTable& table, const at::Tensor& positions,
               RopeDirection direction, const at::Tensor& out);

}  // namespace slmi::ops
