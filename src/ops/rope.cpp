// Rotary embedding; see the header.
#include "slmi/ops/rope.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "slmi/kernels/cpu/rope.h"
#include "slmi/kernels/cuda/rope.h"

namespace slmi::ops {

RopeTable::RopeTable(const std::vector<float>& inv_freq, at::Device device)
    : inv_freq_(at::tensor(inv_freq, at::kFloat).to(device)) {}

void RopeTable::reserve(int64_t n) {
  if (cos_.defined() && cos_.size(0) >= n) return;
  constexpr int64_t kStep = 1024;  // grow in steps, so that decoding does not rebuild the table each token
  const int64_t capacity = (n + kStep - 1) / kStep * kStep;
  const at::Tensor positions = at::arange(capacity, inv_freq_.options());
  const at::Tensor angles = positions.unsqueeze(1) * inv_freq_.unsqueeze(0);
  cos_ = angles.cos();
  sin_ = angles.sin();
}

namespace {

kernels::cpu::RopeDirection for_kernels(RopeDirection direction) {
  return direction == RopeDirection::Forward ? kernels::cpu::RopeDirection::Forward
                                             : kernels::cpu::RopeDirection::Inverse;
}

bool rope_on_cuda(const at::Tensor& x, int64_t num_heads, const RopeTable& table, const at::Tensor& positions,
                  RopeDirection direction, const at::Tensor& out) {
  return on_cuda(x, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    const T* from = pointer<T>(x);
    kernels::cuda::rope_apply(from, x.stride(0), x.size(0), num_heads, 2 * table.cos().size(1),
                              pointer<float>(table.cos()), pointer<float>(table.sin()), pointer<int32_t>(positions),
                              for_kernels(direction), pointer<T>(out), out.stride(0), stream);
  });
}

}  // namespace

void rope_into(const at::Tensor& x, int64_t num_heads, const RopeTable& table, const at::Tensor& positions,
               RopeDirection direction, const at::Tensor& out) {
  if (rope_on_cuda(x, num_heads, table, positions, direction, out)) return;
  out.copy_(x);
  rope_apply(out, num_heads, table, positions, direction);
}

void rope_apply(const at::Tensor& x, int64_t num_heads, const RopeTable& table, const at::Tensor& positions,
                RopeDirection direction) {
  if (rope_on_cuda(x, num_heads, table, positions, direction, x)) return;
  const int64_t half = table.cos().size(1);
  if (fits_cpu_kernels(x)) {
    with_element_type(x.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(x.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::rope_apply(pointer<T>(x), x.stride(0), num_heads, 2 * half, pointer<float>(table.cos()),
                                 pointer<float>(table.sin()), pointer<int32_t>(positions), for_kernels(direction),
                                 begin, end);
      });
    });
    return;
  }
  const at::Tensor cos = table.cos().index_select(0, positions).unsqueeze(1);
  at::Tensor sin = table.sin().index_select(0, positions).unsqueeze(1);
  if (direction == RopeDirection::Inverse) sin = -sin;
  const at::Tensor heads = x.unflatten(1, {num_heads, 2 * half});
  const at::Tensor a = heads.narrow(2, 0, half).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  const at::Tensor b = heads.narrow(2, half, half).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  heads.narrow(2, 0, half).copy_(a * cos - b * sin);
  heads.narrow(2, half, half).copy_(b * cos + a * sin);
}

}  // namespace slmi::ops
