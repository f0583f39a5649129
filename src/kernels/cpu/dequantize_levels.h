// Row functions of each SIMD level, and the dispatch type they share; private to the dequantization sources.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slmi/kernels/gguf_blocks.h"
#include "slmi/kernels/nf4_codebook.h"

namespace slmi::kernels::cpu::detail {

/// One row: k values (a multiple of the block size) from src to dst.
template <class T>
using RowFunction = void (*)(const std::byte* src, T* dst, int64_t k);

/// Whole NF4 blocks of 64 values: `codes` is 32 bytes a block, scale of block b given by scales[b].
template <class T>
using Nf4Function = void (*)(const uint8_t* codes, const float* scales, T* dst, int64_t num_blocks);

template <class T>
RowFunction<T> scalar_row(BlockFormat format);
template <class T>
RowFunction<T> avx2_row(BlockFormat format);
template <class T>
RowFunction<T> avx512_row(BlockFormat format);

template <class T>
Nf4Function<T> avx2_nf4();
template <class T>
Nf4Function<T> avx512_nf4();

}  // namespace slmi::kernels::cpu::detail
