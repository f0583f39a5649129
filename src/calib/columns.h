// The inner loops of GPTQ: one block of columns, whose later columns make up for the errors of its earlier ones.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "row_grid.h"

namespace slmi::calib {

/// Columns updated one by one; what lies behind them is updated in one product.
inline constexpr int64_t kColumnBlock = 128;

/// Working state of some rows, columns in the order of quantization. Letters: N rows, K columns.
struct ColumnState {
  at::Tensor weight;  // f32 [N, K], rows next to each other: updated ahead of the block
  at::Tensor factor;  // f32 [K, K]: upper triangular U with H^-1 = U^T U
  at::Tensor codes;   // u8 [N, K]
  at::Tensor errors;  // f32 [N, kColumnBlock]: (w - q) / U[i, i] of the block
  RowGrid* grid = nullptr;
};

/// Quantizes columns [begin, end): chooses the steps of the groups that begin there, writes codes and errors. On the
/// CPU by rows, on all threads; elsewhere as below.
void quantize_block(ColumnState& state, int64_t begin, int64_t end);
/// The same, column by column with libtorch's operations: for devices that have no loop of ours. On the CPU it gives
/// the same bits.
void quantize_block_by_columns(ColumnState& state, int64_t begin, int64_t end);

/// All columns of rows that share an input: block by block, and what lies behind a block in one product. `parts` look
/// into one weight [N, K] and one errors [N, kColumnBlock].
void quantize_columns(std::vector<ColumnState>& parts, at::Tensor& weight, at::Tensor& errors,
                      const at::Tensor& factor);

}  // namespace slmi::calib
