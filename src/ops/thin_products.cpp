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
  AdapterColumns out;
  out.count = static_cast<int>(begin.size()) - 1;
  for (size_t i = 0; i < begin.size(); ++i) out.begin[i] = begin[i];
  return out;
}

void gradient(const at::Tensor& x, const at::Tensor& q, const ColumnBegins& begin, int64_t rank, GradientLayout layout,
              double scale, const std::vector<at::Tensor>& targets) {
  on_16_bits(x, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    const AdapterColumns columns = columns_of(begin);
    AdapterTargets out;
    for (size_t i = 0; i < targets.size(); ++i) {
      out.data[i] = pointer<float>(targets[i]);
      out.size[i] = targets[i].numel();
    }
    const at::Tensor scratch =
        at::empty({kernels::cuda::lora_gradient_scratch(x.size(0), columns, rank)}, x.options().dtype(at::kFloat));
    kernels::cuda::lora_gradient(pointer<T>(x), x.stride(0), x.size(0), columns, pointer<T>(q), q.stride(0), rank,
                                 layout, static_cast<float>(scale), out, pointer<float>(scratch), stream);
  });
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
  static_assert(kMostThinAdapters == kernels::cuda::kMaxAdapters);
  const auto& first = adapters.front();
  on_16_bits(first.a_out, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::AdapterGroup<T> group;
    group.rank = first.a.size(0);
    group.k = first.a.size(1);
    group.a_stride = first.a_out.stride(0);
    group.columns_stride = first.columns.stride(0);
    group.transposed_stride = first.transposed.stride(0);
    for (const auto& adapter : adapters)
      group.adapters[group.count++] = {
          pointer<float>(adapter.a),         pointer<float>(adapter.b), adapter.b.size(0),
          static_cast<float>(adapter.scale), pointer<T>(adapter.a_out), pointer<T>(adapter.columns),
          pointer<T>(adapter.transposed)};
    kernels::cuda::lora_refresh(group, stream);
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
  gradient(x, q, {0, x.size(1)}, q.size(1), GradientLayout::RankFirst, 1.0, targets);
}

void thin_gradient_b(const at::Tensor& x, const at::Tensor& q, const ColumnBegins& begin, double scale,
                     const std::vector<at::Tensor>& targets) {
  gradient(x, q, begin, q.size(1) / (static_cast<int64_t>(begin.size()) - 1), GradientLayout::ColumnsFirst, scale,
           targets);
}

}  // namespace slmi::ops
