// LoRA's thin products; see the header.
#include "thin_products.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "slmi/kernels/cuda/lora.h"

namespace slmi::ops {
namespace {

using kernels::cuda::AdapterColumns;
using kernels::cuda::AdapterTargets;
using kernels::cuda::GradientLayout;

AdapterColumns columns_of(const ColumnBegins& begin) {
  static_assert(kMostThinAdapters == kernels::cuda::kMaxAdapters);
  AdapterColumns out;
  out.count = static_cast<int>(begin.size()) - 1;
  for (size_t i = 0; i < begin.size(); ++i) out.begin[i] = begin[i];
  return out;
}

AdapterTargets targets_of(const std::vector<at::Tensor>& targets) {
  AdapterTargets out;
  for (size_t i = 0; i < targets.size(); ++i) {
    out.data[i] = pointer<float>(targets[i]);
    out.size[i] = targets[i].numel();
  }
  return out;
}

at::Tensor scratch_beside(const at::Tensor& x, int64_t values) {
  return at::empty({values}, x.options().dtype(at::kFloat));
}

}  // namespace

bool thin_fits(const at::Tensor& x, const ColumnBegins& begin, int64_t rank) {
  if (begin.size() > kernels::cuda::kMaxAdapters + 1) return false;
  bool fits = false;
  on_16_bits(x, [&](auto tag, auto) {
    fits = kernels::cuda::lora_fits(compute_capability(x.device()), pointer<Element<decltype(tag)>>(x), x.stride(0),
                                    columns_of(begin), rank);
  });
  return fits;
}

void thin_refresh(const std::vector<ThinAdapter>& adapters) {
  if (adapters.empty()) return;
  on_16_bits(adapters.front().a_out, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    std::vector<kernels::cuda::AdapterForms<T>> all;
    for (const auto& adapter : adapters)
      all.push_back({.a = pointer<float>(adapter.a),
                     .b = pointer<float>(adapter.b),
                     .a_out = pointer<T>(adapter.a_out),
                     .columns = pointer<T>(adapter.columns),
                     .transposed = pointer<T>(adapter.transposed),
                     .a_stride = adapter.a_out.stride(0),
                     .columns_stride = adapter.columns.stride(0),
                     .transposed_stride = adapter.transposed.stride(0),
                     .rank = static_cast<int32_t>(adapter.a.size(0)),
                     .k = static_cast<int32_t>(adapter.a.size(1)),
                     .n = static_cast<int32_t>(adapter.b.size(0)),
                     .scale = static_cast<float>(adapter.scale)});
    kernels::cuda::lora_refresh<T>(all, stream);
  });
}

void thin_project(const at::Tensor& x, const at::Tensor& p, const ColumnBegins& begin, const at::Tensor& out) {
  on_16_bits(x, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::lora_project(pointer<T>(x), x.stride(0), x.size(0), columns_of(begin), pointer<T>(p), p.stride(0),
                                p.size(0), pointer<T>(out), out.stride(0), stream);
  });
}

void thin_gradient_a(const at::Tensor& x, const at::Tensor& q, const std::vector<at::Tensor>& targets) {
  on_16_bits(x, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    const AdapterColumns columns = columns_of({0, x.size(1)});
    const int64_t rank = q.size(1);
    const at::Tensor scratch = scratch_beside(x, kernels::cuda::lora_gradient_scratch(x.size(0), columns, rank));
    kernels::cuda::lora_gradient(pointer<T>(x), x.stride(0), x.size(0), columns, pointer<T>(q), q.stride(0), rank,
                                 GradientLayout::RankFirst, 1.0f, targets_of(targets), pointer<float>(scratch), stream);
  });
}

void thin_update_gradients(const at::Tensor& dy, const at::Tensor& p, const at::Tensor& u, const ColumnBegins& begin,
                           double scale, const at::Tensor& du, const std::vector<at::Tensor>& targets) {
  on_16_bits(dy, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    const AdapterColumns columns = columns_of(begin);
    const int64_t rank = p.size(0);
    const at::Tensor scratch =
        scratch_beside(dy, kernels::cuda::lora_update_gradients_scratch(dy.size(0), columns, rank));
    kernels::cuda::lora_update_gradients(
        pointer<T>(dy), dy.stride(0), dy.size(0), columns, pointer<T>(p), p.stride(0), pointer<T>(u), u.stride(0), rank,
        pointer<T>(du), du.stride(0), static_cast<float>(scale), targets_of(targets), pointer<float>(scratch), stream);
  });
}

}  // namespace slmi::ops
