// Attention of short packed rows; see the header.
#include "packed_attention.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "flash_attention.h"
#include "slmi/kernels/cuda/attention.h"

namespace slmi::ops {
namespace {

constexpr int64_t kLongest = 256;  // beyond, FlashAttention's larger tiles win

kernels::cuda::AttentionShape kernel_shape(const AttentionShape& shape) {
  return {static_cast<int>(shape.num_heads), static_cast<int>(shape.num_kv_heads), static_cast<int>(shape.head_dim),
          static_cast<float>(shape.scale())};
}

kernels::cuda::AttentionSegments segments_of(const AttentionPlan::Flash& plan) {
  kernels::cuda::AttentionSegments out;
  out.offsets = pointer<int32_t>(plan.offsets);
  out.prefix = plan.segment_prefix.defined() ? pointer<int32_t>(plan.segment_prefix) : nullptr;
  out.count = static_cast<int>(plan.offsets.size(0)) - 1;
  out.longest = static_cast<int>(plan.longest);
  return out;
}

kernels::cuda::AttentionPrefixes prefixes_of(const AttentionPlan::Flash& plan) {
  kernels::cuda::AttentionPrefixes out;
  if (!plan.segment_prefix.defined()) return out;
  out.rows = pointer<int64_t>(plan.prefix_rows);
  out.offsets = pointer<int32_t>(plan.prefix_offsets);
  out.sharing_rows = pointer<int64_t>(plan.sharing_rows);
  out.sharing_offsets = pointer<int32_t>(plan.sharing_offsets);
  out.count = static_cast<int>(plan.prefix_offsets.size(0)) - 1;
  out.longest = static_cast<int>(plan.longest_prefix);
  out.total = static_cast<int>(plan.prefix_rows.size(0));
  return out;
}

template <class T>
kernels::cuda::AttentionInput<T> input_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return {pointer<T>(q), q.stride(0), pointer<T>(k), pointer<T>(v), k.stride(0)};
}

/// Whether rows start at multiples of 16 bytes.
bool aligned(const at::Tensor& x) {
  constexpr int64_t kBytes = 16;
  return x.stride(1) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kBytes == 0 &&
         x.stride(0) * static_cast<int64_t>(x.element_size()) % kBytes == 0;
}

}  // namespace

bool packed_fits(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                 const AttentionShape& shape, const AttentionPlan& plan) {
  if (!flash_fits(q, k, shape, plan) || plan.flash().longest > kLongest || !aligned(out)) return false;
  bool fits = false;
  on_16_bits(q, [&](auto tag, auto) {
    using T = Element<decltype(tag)>;
    fits = k.stride(0) == v.stride(0) &&
           kernels::cuda::attention_fits(compute_capability(q.device()), kernel_shape(shape), pointer<T>(q),
                                         q.stride(0), pointer<T>(k), pointer<T>(v), k.stride(0));
  });
  return fits;
}

bool packed_takes_gradients(const at::Tensor& d_out, const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv) {
  return aligned(d_out) && aligned(dq) && aligned(dk) && aligned(dv) && dk.stride(0) == dv.stride(0);
}

void packed_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                    const AttentionPlan::Flash& plan, const at::Tensor& out, const at::Tensor& lse) {
  on_16_bits(q, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::attention_forward(input_of<T>(q, k, v), kernel_shape(shape), segments_of(plan), pointer<T>(out),
                                     out.stride(0), pointer<float>(lse), stream);
  });
}

void packed_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& out, const at::Tensor& lse, const AttentionShape& shape,
                     const AttentionPlan::Flash& plan, const at::Tensor& dq, const at::Tensor& dk,
                     const at::Tensor& dv) {
  on_16_bits(q, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    const auto prefixes = prefixes_of(plan);
    const at::Tensor scratch =
        at::empty({kernels::cuda::attention_backward_scratch(q.size(0), kernel_shape(shape), prefixes)},
                  q.options().dtype(at::kFloat));
    kernels::cuda::AttentionGradient<T> gradient;
    gradient.d_out = pointer<T>(d_out);
    gradient.d_out_stride = d_out.stride(0);
    gradient.out = pointer<T>(out);
    gradient.out_stride = out.stride(0);
    gradient.lse = pointer<float>(lse);
    gradient.dq = pointer<T>(dq);
    gradient.dq_stride = dq.stride(0);
    gradient.dk = pointer<T>(dk);
    gradient.dv = pointer<T>(dv);
    gradient.d_kv_stride = dk.stride(0);
    kernels::cuda::attention_backward(input_of<T>(q, k, v), gradient, q.size(0), kernel_shape(shape), segments_of(plan),
                                      prefixes, pointer<float>(scratch), stream);
  });
}

}  // namespace slmi::ops
