// Dropout by counter on a GPU: the mask of cpu/dropout.h. Conventions: types.h.
#pragma once

#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

/// cpu::DropoutKey with the step in device memory, so that a captured pass can be replayed in other steps.
struct DropoutKey {
  uint64_t seed = 0;
  const int64_t* step = nullptr;
  uint32_t site = 0;
  double probability = 0.0;
};

// out = x * scale where cpu::apply_dropout keeps an element, else 0.
//
// Shapes    x, out T [rows, width], may be the same; row_keys u64 [rows]; positions i32 [rows].
// Numerics  equal bits to the CPU's.
template <class T>
void apply_dropout(const T* x, int64_t x_stride, const DropoutKey& key, const uint64_t* row_keys,
                   const int32_t* positions, int64_t rows, int64_t width, T* out, int64_t out_stride, Stream stream);

}  // namespace slmi::kernels::cuda
