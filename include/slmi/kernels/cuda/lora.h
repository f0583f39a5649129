// The products of LoRA that are too thin for a matrix library, on tensor cores. Conventions: types.h.
//
// Letters: R rank of one adapter; adapters of matrices that share an input (q, k, v) come together, up to kMaxAdapters.
#pragma once

#include <span>

#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

inline constexpr int kMaxAdapters = 4;

/// Columns of one row that belong to adapters 0, 1, ...: adapter i has [begin[i], begin[i + 1]).
struct AdapterColumns {
  int count = 0;
  int64_t begin[kMaxAdapters + 1] = {};
};

/// Whether the kernels below take rows of this layout on a card of this compute capability (90 for 9.0): tensor cores
/// for the type, 16-byte starts, whole tiles of columns, ranks of whole tiles. `rank` is what a product has at once.
template <class T>
bool lora_fits(int compute_capability, const T* x, int64_t x_stride, const AdapterColumns& columns, int64_t rank);

/// One adapter's values, and where the products below and the base's want them.
template <class T>
struct AdapterForms {
  const float* a = nullptr;  // [rank, k] contiguous
  const float* b = nullptr;  // [n, rank] contiguous
  T* a_out = nullptr;        // [rank, k]: A
  T* columns = nullptr;      // [n, rank]: scale * B
  T* transposed = nullptr;   // [rank, n]: its transpose
  int64_t a_stride = 0, columns_stride = 0, transposed_stride = 0;
  int32_t rank = 0, k = 0, n = 0;
  float scale = 1.0f;
};

// Writes all forms of these adapters, 48 in a launch. Numerics: scale * B in f32, each value rounded once.
template <class T>
void lora_refresh(std::span<const AdapterForms<T>> adapters, Stream stream);

// out[t] = x[t]: narrow rows to where wide ones have room for them, in packs of 16 bytes where the rows allow it.
template <class T>
void copy_rows(const T* x, int64_t x_stride, int64_t rows, int64_t width, T* out, int64_t out_stride, Stream stream);

// out[t][i*rank + r] = sum over the columns c of adapter i of x[t][c] * p[r][c]
//
// One adapter over all columns: u = x A^T, with the A of all that share x stacked. Several: the gradient of u, from
// dy and the B^T of each side by side.
// Shapes    x T [rows, columns]; p T [rank, columns], rows p_stride apart, 4-byte starts; out T [rows, count * rank].
// Requires  lora_fits(x), rank a multiple of 16, at most 64.
template <class T>
void lora_project(const T* x, int64_t x_stride, int64_t rows, const AdapterColumns& columns, const T* p,
                  int64_t p_stride, int64_t rank, T* out, int64_t out_stride, Stream stream);

/// Where gradients of several adapters go, one after the other: f32, contiguous, sizes in values.
struct AdapterTargets {
  float* data[kMaxAdapters] = {};
  int64_t size[kMaxAdapters] = {};
};

/// How a gradient lies: [rank, columns] (of A) or [columns, rank] (of B).
enum class GradientLayout { RankFirst, ColumnsFirst };

/// f32 values that lora_gradient needs.
int64_t lora_gradient_scratch(int64_t rows, const AdapterColumns& columns, int64_t rank);

// target_i += scale * sum over t of q[t][i*rank + r] * x[t][c], for the columns c of adapter i
//
// One adapter over all columns: the gradients of A, from x and that of u, of all that share x; their targets follow
// each other. Several: those of each B, from dy and u.
// Shapes    x T [rows, columns]; q T [rows, count * rank], 16-byte starts; targets: together rank * columns values, in
//           the layout's order.
// Numerics  sums over fixed pieces of the rows, added in order: equal bits in every run.
// Requires  lora_fits(x) and of q, rank a multiple of 16, at most 64.
template <class T>
void lora_gradient(const T* x, int64_t x_stride, int64_t rows, const AdapterColumns& columns, const T* q,
                   int64_t q_stride, int64_t rank, GradientLayout layout, float scale, const AdapterTargets& targets,
                   float* scratch, Stream stream);

/// f32 values that lora_update_gradients needs.
int64_t lora_update_gradients_scratch(int64_t rows, const AdapterColumns& columns, int64_t rank);

// du[t][i*rank + r] = sum over the columns c of adapter i of dy[t][c] * p[r][c]
// target_i[c][r] += scale * sum over t of dy[t][c] * u[t][i*rank + r]
//
// lora_project and lora_gradient of dy, in one pass over it: dy is most of what they read. Ranks above 32 take two.
// Shapes    dy T [rows, columns]; p T [rank, columns], rows p_stride apart, 4-byte starts; u and du T [rows, count *
//           rank], u with 16-byte starts; targets f32 [columns of i, rank].
// Numerics  sums over fixed pieces of rows and columns, added in order: equal bits in every run.
// Requires  lora_fits(dy) and of u, rank a multiple of 16, at most 64.
template <class T>
void lora_update_gradients(const T* dy, int64_t dy_stride, int64_t rows, const AdapterColumns& columns, const T* p,
                           int64_t p_stride, const T* u, int64_t u_stride, int64_t rank, T* du, int64_t du_stride,
                           float scale, const AdapterTargets& targets, float* scratch, Stream stream);

}  // namespace slmi::kernels::cuda
