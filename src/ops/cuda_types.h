// From tensors to the typed pointers and the stream that the CUDA kernels take.
#pragma once

#include <type_traits>

#include "cpu_types.h"
#include "slmi/kernels/cuda/types.h"
#ifdef SLMI_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace slmi::ops {

/// body(tag, stream), with a null T* of the element type (float, Bf16 or F16), if the tensor is on a GPU and its
/// columns lie next to each other. Returns whether it ran; never in a program that was not compiled for GPUs, whose
/// bodies are not compiled either.
template <class Body>
bool on_cuda([[maybe_unused]] const at::Tensor& t, [[maybe_unused]] const Body& body) {
#ifdef SLMI_WITH_CUDA
  if (!t.is_cuda() || t.stride(-1) != 1) return false;
  const kernels::cuda::Stream stream = c10::cuda::getCurrentCUDAStream(t.get_device()).stream();
  switch (t.scalar_type()) {
    case at::kFloat:
      body(static_cast<float*>(nullptr), stream);
      return true;
    case at::kBFloat16:
      body(static_cast<kernels::cuda::Bf16*>(nullptr), stream);
      return true;
    case at::kHalf:
      body(static_cast<kernels::cuda::F16*>(nullptr), stream);
      return true;
    default:
      return false;
  }
#else
  return false;
#endif
}

/// The same for 16-bit types alone; nothing runs for others.
template <class Body>
void on_16_bits(const at::Tensor& t, const Body& body) {
  on_cuda(t, [&](auto tag, auto stream) {
    if constexpr (!std::is_same_v<Element<decltype(tag)>, float>) body(tag, stream);
  });
}

}  // namespace slmi::ops
