// The scales of GPTQ's symmetric groups, by search.
#pragma once

#include <cstdint>

#include "slmi/kernels/cpu/simd.h"

namespace slmi::kernels::cpu {

/// The same columns of several rows; each row has a scale of its own.
struct RowGroups {
  const float* x;  // [count, size], finite, |x| <= 1e10
  int64_t stride;  // from a row to the next
  int64_t count;
  int64_t size;         // >= 1
  const float* weight;  // [size], 0..1: what an error costs in each column
};

/// floats of scratch that group_search needs.
int64_t group_search_scratch(int64_t size);

/// For each row a scale that makes  sum of weight[i] * (x[i] - scale * code[i])^2  small, codes -levels..levels - 1:
/// candidates for 1 / scale are +-c * levels / (value of largest magnitude), c = 0.625..1.125 in 32 steps; x is rounded
/// to codes by each, then fitted to them by weighted least squares; the best fit stays. A scale may be negative, so
/// that the side with one code more is that of the largest weight. 0: no candidate has a code that counts.
///
/// Numerics  f32; sums in column order. The vector levels give each row a lane: every level has the bits of
///           SimdLevel::Scalar.
/// Errors    none; allocates nothing, starts no thread.
/// Tested    tests/kernels/group_search_test.cpp.
void group_search(const RowGroups& in, int levels, float* scale, float* scratch, SimdLevel level = simd().level);

}  // namespace slmi::kernels::cpu
