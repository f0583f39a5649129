// Products; see the header.
#include "slmi/ops/product.h"

#include <ATen/ATen.h>

#include "cpu_types.h"
#include "slmi/kernels/cpu/gemv.h"

namespace slmi::ops {
namespace {

constexpr int64_t kColumnGrain = 48;  // columns of y a task at least

bool takes_gemv(const at::Tensor& t) {
  return t.scalar_type() == at::kFloat && fits_cpu_kernels(t);
}

}  // namespace

void product_into(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  if (x.size(0) > 0 && x.size(0) <= kernels::cpu::kMaxGemvRows && takes_gemv(x) && takes_gemv(w) && takes_gemv(y))
    return parallel(w.size(0), kColumnGrain, [&](int64_t begin, int64_t end) {
      kernels::cpu::gemv(pointer<const float>(x), x.stride(0), x.size(0), pointer<const float>(w), w.stride(0),
                         w.size(1), pointer<float>(y), y.stride(0), begin, end);
    });
  at::Tensor out = y;
  at::mm_out(out, x, w.t());
}

}  // namespace slmi::ops
