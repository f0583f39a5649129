// LoRA's thin products on a GPU: a matrix library takes as long for them as for the base's.
#pragma once

#include <vector>

#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// Columns of adapters 0, 1, ...: adapter i has [begin[i], begin[i + 1]).
using ColumnBegins = std::vector<int64_t>;

/// Whether the functions below take rows like x's, with products of this rank at once.
bool thin_fits(const at::Tensor& x, const ColumnBegins& begin, int64_t rank);

/// One adapter: A [rank, K] and B [n, rank] in f32, contiguous, and their forms in a 16-bit type, rows strided: A, s*B,
/// and the transpose of that.
struct ThinAdapter {
  at::Tensor a, b;
  double scale = 1.0;
  at::Tensor a_out, columns, transposed;
};

/// Most adapters that share an input.
inline constexpr size_t kMostThinAdapters = 4;

/// Writes the forms of all these adapters, which are in one type.
void thin_refresh(const std::vector<ThinAdapter>& adapters);

/// Column i*rank + r of out is the sum of x times row r of p over adapter i's columns. x [T, columns], p [rank,
/// columns], out [T, adapters * rank], all of one 16-bit type. One adapter: x p^T.
void thin_project(const at::Tensor& x, const at::Tensor& p, const ColumnBegins& begin, const at::Tensor& out);

/// targets += q^T x, the rows shared out to the targets in order. x [T, K], q [T, R], target f32 [its R, K].
void thin_gradient_a(const at::Tensor& x, const at::Tensor& q, const std::vector<at::Tensor>& targets);

/// What an update u B^T takes from dy, in one pass over it: du as thin_project(dy, p, begin, du), and the gradients of
/// each B, target i += scale * dy_i^T u_i. dy [T, columns], u and du [T, adapters * rank], target i f32 [columns of i,
/// rank].
void thin_update_gradients(const at::Tensor& dy, const at::Tensor& p, const at::Tensor& u, const ColumnBegins& begin,
                           double scale, const at::Tensor& du, const std::vector<at::Tensor>& targets);

}  // namespace slmi::ops
