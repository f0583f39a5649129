// Integer arithmetic that throws instead of wrapping: for sizes that come from files.
#pragma once

#include <cstdint>
#include <span>

#include "slmi/base/error.h"

namespace slmi {

/// a * b; throws Error{Input} on overflow.
inline uint64_t checked_mul(uint64_t a, uint64_t b) {
  uint64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out)) fail(ErrorKind::Input, "size overflow: {} * {} does not fit 64 bits", a, b);
  return out;
}

/// a + b; throws Error{Input} on overflow.
inline uint64_t checked_add(uint64_t a, uint64_t b) {
  uint64_t out = 0;
  if (__builtin_add_overflow(a, b, &out)) fail(ErrorKind::Input, "size overflow: {} + {} does not fit 64 bits", a, b);
  return out;
}

/// Product of all dimensions (1 for none); throws Error{Input} on overflow.
inline uint64_t checked_product(std::span<const uint64_t> dims) {
  uint64_t out = 1;
  for (uint64_t d : dims) out = checked_mul(out, d);
  return out;
}

/// Smallest multiple of `alignment` (> 0) that is >= value; throws Error{Input} on overflow.
inline uint64_t checked_align(uint64_t value, uint64_t alignment) {
  return checked_add(value, (alignment - value % alignment) % alignment);
}

}  // namespace slmi
