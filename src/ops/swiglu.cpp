// SwiGLU through our kernels, and through plain libtorch operations where there is none for the type or device.
#include "slmi/ops/swiglu.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "slmi/kernels/cpu/swiglu.h"
#include "slmi/kernels/cuda/swiglu.h"

namespace slmi::ops {

void swiglu_forward(const at::Tensor& gate_up, const at::Tensor& out) {
  const int64_t f = gate_up.size(1) / 2;
  if (fits_cpu_kernels(gate_up)) {
    with_element_type(gate_up.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(gate_up.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::swiglu_forward(pointer<T>(gate_up), gate_up.stride(0), f, pointer<T>(out), out.stride(0), begin,
                                     end);
      });
    });
    return;
  }
  const bool done = on_cuda(gate_up, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::swiglu_forward(pointer<T>(gate_up), gate_up.stride(0), gate_up.size(0), f, pointer<T>(out),
                                  out.stride(0), stream);
  });
  if (done) return;
  const at::Tensor gate = gate_up.narrow(1, 0, f).to(at::kFloat), up = gate_up.narrow(1, f, f).to(at::kFloat);
  out.copy_(at::silu(gate).mul_(up));
}

void swiglu_backward(const at::Tensor& gate_up, const at::Tensor& d_out, const at::Tensor& d_gate_up,
                     const at::Tensor& activation) {
  const int64_t f = gate_up.size(1) / 2, stride = activation.defined() ? activation.stride(0) : 0;
  const auto values = [&]<class T>() { return activation.defined() ? pointer<T>(activation) : nullptr; };
  if (fits_cpu_kernels(gate_up)) {
    with_element_type(gate_up.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(gate_up.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::swiglu_backward(pointer<T>(gate_up), gate_up.stride(0), pointer<T>(d_out), d_out.stride(0), f,
                                      pointer<T>(d_gate_up), d_gate_up.stride(0), values.template operator()<T>(),
                                      stride, begin, end);
      });
    });
    return;
  }
  const bool done = on_cuda(gate_up, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::swiglu_backward(pointer<T>(gate_up), gate_up.stride(0), pointer<T>(d_out), d_out.stride(0),
                                   gate_up.size(0), f, pointer<T>(d_gate_up), d_gate_up.stride(0),
                                   values.template operator()<T>(), stride, stream);
  });
  if (done) return;
  const at::Tensor gate = gate_up.narrow(1, 0, f).to(at::kFloat), up = gate_up.narrow(1, f, f).to(at::kFloat);
  const at::Tensor d = d_out.to(at::kFloat);
  const at::Tensor sigmoid = at::sigmoid(gate);
  const at::Tensor silu = gate * sigmoid;
  const at::Tensor d_up = d * silu;
  const at::Tensor d_gate = d * up * (sigmoid + silu * (1.0 - sigmoid));
  if (activation.defined()) activation.copy_(silu * up);
  d_gate_up.narrow(1, 0, f).copy_(d_gate);
  d_gate_up.narrow(1, f, f).copy_(d_up);
}

bool swiglu_lora_fits(const at::Tensor& gate_up, int64_t rank) {
  bool fits = false;
  on_16_bits(gate_up, [&](auto tag, auto) {
    using T = Element<decltype(tag)>;
    fits = kernels::cuda::swiglu_lora_fits(compute_capability(gate_up.device()), pointer<T>(gate_up), gate_up.stride(0),
                                           gate_up.size(1) / 2, rank);
  });
  return fits;
}

void swiglu_lora_backward(const at::Tensor& gate_up, const at::Tensor& d_out, const at::Tensor& d_gate_up,
                          const at::Tensor& du, const at::Tensor& grad_a) {
  on_16_bits(gate_up, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    const int64_t rows = gate_up.size(0), f = gate_up.size(1) / 2, rank = du.size(1);
    const at::Tensor scratch = at::empty({kernels::cuda::swiglu_lora_scratch(rows, f, rank)}, grad_a.options());
    kernels::cuda::swiglu_lora_backward(pointer<T>(gate_up), gate_up.stride(0), pointer<T>(d_out), d_out.stride(0),
                                        rows, f, pointer<T>(d_gate_up), d_gate_up.stride(0), pointer<T>(du),
                                        du.stride(0), rank, pointer<float>(grad_a), pointer<float>(scratch), stream);
  });
}

}  // namespace slmi::ops
