// GGUF blocks back to numbers on a GPU. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"
#include "slmi/kernels/gguf_blocks.h"

namespace slmi::kernels::cuda {

/// A matrix [n, k] in blocks (not F32, F16 or BF16), in device memory: row after row, as in a file.
struct BlockView {
  BlockFormat format;
  const uint8_t* blocks;  // at a multiple of 8 bytes
  int64_t n, k;           // k a multiple of block_size(format)
};

// out[r][c] = w[r][c] (gguf_blocks.h).
//
// Shapes    out T [n, k].
// Traffic   reads each block once, writes n * k * sizeof(T) bytes: it runs at the speed of the output.
// Numerics  equal bits to the CPU's scalar kernel, f16 rounded as bf16 is; of a NaN only that it is one.
template <class T>
void gguf_dequantize(const BlockView& matrix, T* out, int64_t out_stride, Stream stream);

// out[r][c] = w[ids[r]][c]: the rows of an embedding. An id outside [0, n) gives a row of NaN.
//
// Shapes    ids i32 [count]; out T [count, k].
template <class T>
void gguf_rows(const BlockView& matrix, const int32_t* ids, int64_t count, T* out, int64_t out_stride, Stream stream);

}  // namespace slmi::kernels::cuda
