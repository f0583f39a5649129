// RMSNorm through our kernels, and through plain libtorch operations where there is none for the type or device.
#include "slmi/ops/norm.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "slmi/kernels/cpu/rms_norm.h"
#include "slmi/kernels/cuda/rms_norm.h"

namespace slmi::ops {

void rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, double eps, const at::Tensor& out,
                      const at::Tensor& rstd) {
  if (fits_cpu_kernels(out)) {
    with_element_type(out.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(x.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::rms_norm_forward(pointer<float>(x), pointer<float>(weight), static_cast<float>(eps), x.size(1),
                                       pointer<T>(out), out.stride(0), pointer<float>(rstd), begin, end);
      });
    });
    return;
  }
  const bool done = on_cuda(out, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::rms_norm_forward(pointer<float>(x), pointer<float>(weight), static_cast<float>(eps), x.size(0),
                                    x.size(1), pointer<T>(out), out.stride(0), pointer<float>(rstd), stream);
  });
  if (done) return;
  const at::Tensor r = x.pow(2).mean(-1).add_(eps).rsqrt_();
  rstd.copy_(r);
  out.copy_(x.mul(r.unsqueeze(-1)).mul_(weight));
}

at::Tensor add_rms_norm_forward(const at::Tensor& hidden, const at::Tensor& y, const at::Tensor& weight, double eps,
                                const at::Tensor& out, const at::Tensor& rstd) {
  at::Tensor sum;
  const bool done = on_cuda(out, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    sum = at::empty_like(hidden);
    kernels::cuda::add_rms_norm_forward(pointer<float>(hidden), pointer<T>(y), y.stride(0), pointer<float>(weight),
                                        static_cast<float>(eps), hidden.size(0), hidden.size(1), pointer<float>(sum),
                                        pointer<T>(out), out.stride(0), pointer<float>(rstd), stream);
  });
  if (done) return sum;
  sum = add_residual(hidden, y);
  rms_norm_forward(sum, weight, eps, out, rstd);
  return sum;
}

void rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                       const at::Tensor& dx, const at::Tensor& rounded, const at::Tensor& remade) {
  const bool done = on_cuda(dy, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    const auto start = [](const at::Tensor& out) { return out.defined() ? pointer<T>(out) : nullptr; };
    const auto stride = [](const at::Tensor& out) { return out.defined() ? out.stride(0) : 0; };
    kernels::cuda::rms_norm_backward(pointer<T>(dy), dy.stride(0), pointer<float>(x), pointer<float>(weight),
                                     pointer<float>(rstd), x.size(0), x.size(1), pointer<float>(dx), start(rounded),
                                     stride(rounded), start(remade), stride(remade), stream);
  });
  if (done) return;
  if (fits_cpu_kernels(dy)) {
    with_element_type(dy.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(x.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::rms_norm_backward(pointer<T>(dy), dy.stride(0), pointer<float>(x), pointer<float>(weight),
                                        pointer<float>(rstd), x.size(1), pointer<float>(dx), begin, end);
      });
    });
  } else {
    const at::Tensor r = rstd.unsqueeze(-1);
    const at::Tensor normalized = x * r;
    const at::Tensor dn = dy.to(at::kFloat) * weight;
    const at::Tensor projection = (dn * normalized).mean(-1, /*keepdim=*/true);
    dx.add_((dn - normalized * projection).mul_(r));
  }
  if (rounded.defined()) rounded.copy_(dx);
  if (remade.defined()) remade.copy_(x.mul(rstd.unsqueeze(-1)).mul_(weight));
}

at::Tensor add_residual(const at::Tensor& hidden, const at::Tensor& y) {
  const at::Tensor out = at::empty_like(hidden);
  const bool done = on_cuda(y, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::add_to_residual(pointer<float>(hidden), pointer<T>(y), y.stride(0), hidden.size(0), hidden.size(1),
                                   pointer<float>(out), stream);
  });
  if (done) return out;
  if (!fits_cpu_kernels(y)) return hidden + y;
  with_element_type(y.scalar_type(), [&](auto tag) {
    using T = Element<decltype(tag)>;
    parallel(hidden.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
      kernels::cpu::add_to_residual(pointer<float>(hidden), pointer<T>(y), y.stride(0), hidden.size(1),
                                    pointer<float>(out), begin, end);
    });
  });
  return out;
}

}  // namespace slmi::ops
