// The values that weights may take: what GPTQ's column loop asks of a format.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "slmi/quant/code_grid.h"

namespace slmi::calib {

/// w = base + step * (code - zero), codes 0..max_code. Steps are chosen when the first column of a group is reached,
/// from what its weights are then. Letters: N rows, K columns.
class RowGrid {
 public:
  virtual ~RowGrid() = default;

  int64_t width = 0;   // columns of a group; divides kColumnBlock or is a multiple of it, or is K
  int64_t shared = 0;  // neighbours with one step; divides width
  float zero = 0, max_code = 0;
  at::Tensor steps;  // f32 [N, K / shared], never 0
  at::Tensor bases;  // the same, or undefined: all 0

  /// Chooses the steps of columns [column, column + width) for rows [first, last), on the CPU. `w` is the weight of row
  /// `first` at that column, `stride` its distance to the next row's. Several threads call it for different rows.
  void choose(const float* w, int64_t stride, int64_t first, int64_t last, int64_t column);
  /// The same for all rows, searched on the CPU wherever they lie; w [N, width].
  void choose(const at::Tensor& w, int64_t column);

 protected:
  /// Where the steps of row 0's group go; bases may be null.
  struct Steps {
    float *steps, *bases;
    int64_t stride;  // from a row to the next
  };
  virtual void choose_into(const Steps& out, const float* w, int64_t stride, int64_t first, int64_t last,
                           int64_t column) = 0;

 private:
  static Steps steps_of(const at::Tensor& steps, const at::Tensor& bases, int64_t at);
};

/// GPTQ's: symmetric, 4 bits, f16 scales, by kernels::cpu::group_search.
class GptqGrid final : public RowGrid {
 public:
  /// @param cost  f32 [K], > 0: what the square of an error costs in each column.
  /// @param like  f32, on the device.
  GptqGrid(int64_t n, int64_t group_size, const at::Tensor& cost, const at::Tensor& like);

 private:
  void choose_into(const Steps& out, const float* w, int64_t stride, int64_t first, int64_t last,
                   int64_t column) override;

  std::vector<float> cost_;  // [K], 0..1
};

/// Those of a GGUF block format; scales by its own quantizer.
class BlockGrid final : public RowGrid {
 public:
  /// @param importance  f32 [K] on the CPU; must outlive this.
  BlockGrid(quant::WeightFormat format, int64_t n, int64_t k, const std::vector<float>& importance,
            const at::Tensor& like);
  /// The packed matrix with these codes, u8 [N, K].
  std::vector<std::byte> blocks(const at::Tensor& codes) &&;

 private:
  void choose_into(const Steps& out, const float* w, int64_t stride, int64_t first, int64_t last,
                   int64_t column) override;
  std::byte* block_at(int64_t row, int64_t column);

  quant::WeightFormat format_;
  int64_t n_, k_;
  int64_t block_bytes_, row_bytes_;
  const std::vector<float>& importance_;
  std::vector<std::byte> blocks_;
};

/// Round-to-nearest of weight f32 [N, K] with scales 2*max|w|/15, rounded to f16: f32 [N, K].
at::Tensor round_to_nearest(const at::Tensor& weight, int64_t group_size);

}  // namespace slmi::calib
