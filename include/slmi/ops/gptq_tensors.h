// A GPTQ matrix as tensors, for devices that have no kernel of ours: codes as packed, the few scales and zeros as
// numbers.
#pragma once

#include "slmi/ops/tensor.h"
#include "slmi/quant/gptq_packing.h"

namespace slmi::ops {

/// Letters: N rows, K columns, G groups.
struct GptqTensors {
  at::Tensor qweight;  // i32 [K/8, N]
  at::Tensor zeros;    // f32 [G, N]
  at::Tensor scales;   // f32 [G, N]
  at::Tensor g_idx;    // i64 [K]

  bool defined() const { return qweight.defined(); }
  uint64_t bytes() const { return qweight.nbytes() + zeros.nbytes() + scales.nbytes() + g_idx.nbytes(); }
};

/// Copies a checked view to a device.
GptqTensors to_tensors(const quant::GptqView& view, at::Device device);

/// f32 [N, K], transposed strides; the bits of quant::gptq_dequantize_rows. Needs 12*N*K bytes of scratch.
at::Tensor dequantize(const GptqTensors& matrix);

}  // namespace slmi::ops
