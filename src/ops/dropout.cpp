// Dropout by counter through our kernels; elsewhere with a mask made on the CPU (the same bits).
#include "slmi/ops/dropout.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "slmi/base/error.h"
#include "slmi/kernels/cpu/dropout.h"
#include "slmi/kernels/cuda/dropout.h"

namespace slmi::ops {

uint32_t site_number(const LinearSite& site) {
  uint32_t group = 0;
  if (site.module == "o_proj") group = 1;
  if (site.module == "gate_proj" || site.module == "up_proj") group = 2;
  if (site.module == "down_proj") group = 3;
  return static_cast<uint32_t>(site.layer) * 4 + group;
}

void apply_dropout(const at::Tensor& x, const DropoutContext& dropout, uint32_t site, const at::Tensor& out) {
  const kernels::cpu::DropoutKey key{dropout.seed, dropout.step, site, dropout.probability};
  const auto run = [&](const at::Tensor& in, const at::Tensor& keys, const at::Tensor& positions,
                       const at::Tensor& result) {
    with_element_type(in.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(in.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::apply_dropout(pointer<T>(in), in.stride(0), key, static_cast<const uint64_t*>(keys.data_ptr()),
                                    pointer<int32_t>(positions), in.size(1), pointer<T>(result), result.stride(0),
                                    begin, end);
      });
    });
  };
  if (fits_cpu_kernels(x)) return run(x, dropout.row_keys, dropout.positions, out);
  const bool done =
      dropout.step_on_device.defined() && on_cuda(x, [&](auto tag, auto stream) {
        using T = Element<decltype(tag)>;
        kernels::cuda::apply_dropout(
            pointer<T>(x), x.stride(0),
            {dropout.seed, pointer<int64_t>(dropout.step_on_device), site, dropout.probability},
            static_cast<const uint64_t*>(dropout.row_keys.data_ptr()), pointer<int32_t>(dropout.positions), x.size(0),
            x.size(1), pointer<T>(out), out.stride(0), stream);
      });
  if (done) return;
  const at::Tensor mask = at::ones({x.size(0), x.size(1)}, at::kFloat);
  run(mask, dropout.row_keys.cpu(), dropout.positions.cpu(), mask);
  out.copy_(x * mask.to(x.device(), x.scalar_type()));
}

}  // namespace slmi::ops
