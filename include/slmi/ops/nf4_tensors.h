// An NF4 matrix as tensors of a GPU: there from numbers, and back.
#pragma once

#include "slmi/ops/tensor.h"
#include "slmi/quant/nf4.h"

namespace slmi::ops {

/// quant::Nf4Matrix on a GPU.
struct Nf4Tensors {
  int64_t n = 0, k = 0;
  at::Tensor codes;                  // u8 [ceil(N*K / 2)]
  at::Tensor absmax;                 // f32 [blocks]; undefined if doubly quantized, then:
  at::Tensor absmax_codes, absmax2;  // u8 [blocks], f32 [ceil(blocks / 256)]
  at::Tensor map;                    // f32 [256]
  float offset = 0.0f;

  bool defined() const { return codes.defined(); }
  uint64_t bytes() const;
};

/// Copies checked planes to a GPU.
Nf4Tensors to_tensors(const quant::Nf4Matrix& matrix, at::Device device);
/// And back: waits for the GPU.
quant::Nf4Matrix to_matrix(const Nf4Tensors& tensors);

/// quant::nf4_quantize on a GPU, in the bits of bitsandbytes there (kernels/cuda/nf4.h says where they differ from the
/// CPU's); the mean of the scales is summed on the host in the CPU's order, so that this waits for the GPU once.
/// @param values  [N, K] f32, bf16 or f16 on a GPU, contiguous.
/// @throws Error{Numeric} naming row and column if a value is NaN or infinite.
Nf4Tensors nf4_quantize(const at::Tensor& values, quant::Nf4Scales scales);

/// All values to out [N, K] on the same GPU (f32, bf16 or f16; rows may be strided).
void nf4_dequantize_into(const Nf4Tensors& matrix, const at::Tensor& out);

}  // namespace slmi::ops
