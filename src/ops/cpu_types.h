// From tensors to the typed pointers that the CPU kernels take.
#pragma once

#include "slmi/base/error.h"
#include "slmi/kernels/cpu/types.h"
#include "slmi/ops/tensor.h"

namespace slmi::ops {

/// True if our CPU kernels take this tensor: on the CPU, f32 or bf16, columns next to each other.
inline bool fits_cpu_kernels(const at::Tensor& t) {
  const bool type = t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16;
  return t.device().is_cpu() && type && t.stride(-1) == 1;
}

template <class T>
T* pointer(const at::Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

/// body(tag) with a null T* of the element type: float or Bf16.
template <class Body>
void with_element_type(at::ScalarType type, const Body& body) {
  if (type == at::kFloat) return body(static_cast<float*>(nullptr));
  require(type == at::kBFloat16, ErrorKind::Internal, "CPU kernels take f32 or bf16");
  body(static_cast<kernels::cpu::Bf16*>(nullptr));
}

/// Element type behind a tag.
template <class Tag>
using Element = std::remove_pointer_t<Tag>;

inline constexpr int64_t kRowGrain = 8;  // rows a task at least, so that one row at a time stays on one thread

}  // namespace slmi::ops
