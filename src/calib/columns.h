// The inner loops of GPTQ: one block of columns, whose later columns make up for the errors of its earlier ones.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace slmi::calib {

/// Columns updated one by one; what lies behind them is updated in one product.
inline constexpr int64_t kColumnBlock = 128;

/// Working state of one matrix, columns in the order of quantization. Letters: N rows, K columns, G group size.
struct ColumnState {
  at::Tensor weight;  // f32 [N, K]: updated ahead of the block
  at::Tensor factor;  // f32 [K, K]: upper triangular U with H^-1 = U^T U
  at::Tensor codes;   // u8 [N, K]
  at::Tensor scales;  // f32 [N, K/G], f16 numbers
  at::Tensor errors;  // f32 [N, kColumnBlock]: (w - q) / U[i, i] of the block
  int64_t group_size = 0;
};

/// Quantizes columns [begin, end), writes codes, scales of the groups that begin there, and errors. On the CPU by rows,
/// on all threads; elsewhere as below.
void quantize_block(ColumnState& state, int64_t begin, int64_t end);
/// The same, column by column with libtorch's operations: for devices that have no loop of ours. On the CPU it gives
/// the same bits.
void quantize_block_by_columns(ColumnState& state, int64_t begin, int64_t end);

/// 2*max|w|/15 rounded to f16: of a group whose weights are all 0, 2/15; never 0 or infinite. Throws nothing.
float scale_of(const float* weights, int64_t count);

/// Round-to-nearest of weight f32 [N, K] with scales by the same rule: f32 [N, K].
at::Tensor round_to_nearest(const at::Tensor& weight, int64_t group_size);

}  // namespace slmi::calib
