// Attention: the plan, and the plain libtorch road (padded gathers and batched products), which runs on every device.
#include "slmi/ops/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu_types.h"
#include "flash_attention.h"
#include "packed_attention.h"

namespace slmi::ops {

double AttentionShape::scale() const {
  return 1.0 / std::sqrt(static_cast<double>(head_dim));
}

AttentionPlan::AttentionPlan(std::vector<AttentionSegment> segments, at::Device device, AttentionPasses passes)
    : segments_(std::move(segments)), device_(device), passes_(passes) {}

AttentionPlan::AttentionPlan(Flash flash)
    : device_(flash.offsets.device()), flash_(std::make_shared<const Flash>(std::move(flash))) {}

const AttentionPlan::Padded& AttentionPlan::padded() const {
  if (padded_.query_index.defined()) return padded_;
  const auto n = static_cast<int64_t>(segments_.size());
  int64_t lq = 1, lk = 1;
  for (const auto& s : segments_) {
    lq = std::max(lq, s.q_len);
    lk = std::max(lk, s.prefix_len + s.own_len);
  }
  const at::Tensor query_index = at::zeros({n, lq}, at::kLong), key_index = at::zeros({n, lk}, at::kLong);
  const at::Tensor mask = at::full({n, 1, lq, lk}, -std::numeric_limits<float>::infinity(), at::kFloat);
  std::vector<int64_t> valid, rows;
  auto* qi = query_index.data_ptr<int64_t>();
  auto* ki = key_index.data_ptr<int64_t>();
  auto* m = mask.data_ptr<float>();
  for (int64_t s = 0; s < n; ++s) {
    const auto& g = segments_[static_cast<size_t>(s)];
    for (int64_t j = 0; j < g.prefix_len; ++j) ki[s * lk + j] = g.prefix_begin + j;
    for (int64_t j = 0; j < g.own_len; ++j) ki[s * lk + g.prefix_len + j] = g.own_begin + j;
    for (int64_t i = 0; i < g.q_len; ++i) {
      qi[s * lq + i] = g.q_begin + i;
      valid.push_back(s * lq + i);
      rows.push_back(g.q_begin + i);
      const int64_t visible = g.prefix_len + g.own_len - g.q_len + i + 1;
      std::fill_n(m + (s * lq + i) * lk, visible, 0.0f);
    }
    for (int64_t i = g.q_len; i < lq; ++i)
      m[(s * lq + i) * lk] = 0.0f;  // padding rows see one key, so that nothing is NaN
  }
  padded_ = {query_index.to(device_), at::tensor(valid, at::kLong).to(device_), at::tensor(rows, at::kLong).to(device_),
             key_index.to(device_), mask.to(device_)};
  return padded_;
}

const kernels::cpu::AttentionPlan& AttentionPlan::cpu(const AttentionShape& shape) const {
  if (!cpu_) {
    const kernels::cpu::AttentionShape s{shape.num_heads, shape.num_kv_heads, shape.head_dim,
                                         static_cast<float>(shape.scale())};
    cpu_ = std::make_shared<const kernels::cpu::AttentionPlan>(s, segments_, at::get_num_threads(), passes_);
  }
  return *cpu_;
}

namespace {

/// Runs body(part, scratch) for every part of a plan.
template <class Body>
void run_parts(const kernels::cpu::AttentionPlan& plan, const Body& body) {
  const auto bytes = static_cast<int64_t>(plan.scratch_bytes());
  const at::Tensor scratch = at::empty({plan.num_parts() * bytes}, at::kByte);
  parallel(plan.num_parts(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part)
      body(static_cast<int>(part), pointer<std::byte>(scratch) + part * bytes);
  });
}

void forward_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const kernels::cpu::AttentionPlan& plan,
                 const at::Tensor& out, const at::Tensor& lse) {
  require(k.stride(0) == v.stride(0), ErrorKind::Internal, "attention: keys and values have different row strides");
  with_element_type(q.scalar_type(), [&](auto q_tag) {
    with_element_type(k.scalar_type(), [&](auto kv_tag) {
      using T = Element<decltype(q_tag)>;
      using KV = Element<decltype(kv_tag)>;
      kernels::cpu::AttentionForward<T, KV> args;
      args.q = pointer<T>(q);
      args.q_stride = q.stride(0);
      args.own = args.prefix = {pointer<KV>(k), pointer<KV>(v), k.stride(0)};
      args.out = pointer<T>(out);
      args.out_stride = out.stride(0);
      args.lse = pointer<float>(lse);
      run_parts(plan,
                [&](int part, std::byte* scratch) { kernels::cpu::attention_forward(plan, args, part, scratch); });
    });
  });
}

void backward_cpu(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const at::Tensor& out, const at::Tensor& lse, const kernels::cpu::AttentionPlan& plan,
                  const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv) {
  const at::Tensor sums = at::zeros({2, k.size(0), k.size(1)}, at::kFloat);
  const at::Tensor partials = at::empty({plan.partials_size()}, at::kFloat);
  with_element_type(q.scalar_type(), [&](auto tag) {
    using T = Element<decltype(tag)>;
    kernels::cpu::AttentionBackward<T> args;
    args.q = pointer<T>(q);
    args.q_stride = q.stride(0);
    args.kv = {pointer<T>(k), pointer<T>(v), k.stride(0)};
    args.out = pointer<T>(out);
    args.out_stride = out.stride(0);
    args.d_out = pointer<T>(d_out);
    args.d_out_stride = d_out.stride(0);
    args.lse = pointer<float>(lse);
    args.dq = pointer<T>(dq);
    args.dq_stride = dq.stride(0);
    args.dk = pointer<float>(sums);
    args.dv = args.dk + k.numel();
    args.partials = pointer<float>(partials);
    run_parts(plan, [&](int part, std::byte* scratch) { kernels::cpu::attention_backward(plan, args, part, scratch); });
    parallel(plan.num_parts(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part)
        kernels::cpu::attention_backward_reduce(plan, args, static_cast<int>(part));
    });
  });
  dk.copy_(sums[0]);
  dv.copy_(sums[1]);
}

/// Rows of x [*, heads*E] gathered to [S, heads, L, E].
at::Tensor gather_heads(const at::Tensor& x, const at::Tensor& index, int64_t heads) {
  const int64_t s = index.size(0), l = index.size(1);
  return x.index_select(0, index.reshape(-1)).view({s, l, heads, -1}).transpose(1, 2);
}

/// Repeats kv heads for their query heads: [S, HK, L, E] -> [S, H, L, E].
at::Tensor repeat_heads(const at::Tensor& x, int64_t times) {
  if (times == 1) return x;
  return x.unsqueeze(2).expand({-1, -1, times, -1, -1}).flatten(1, 2);
}

/// [S, heads, L, E] -> [S * L, heads * E].
at::Tensor rows_of(const at::Tensor& x) {
  return x.transpose(1, 2).flatten(2).flatten(0, 1);
}

struct Gathered {
  at::Tensor q, k, v;  // [S, H, Lq, E], [S, H, Lk, E]
  int64_t group;
};

Gathered gather(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                const AttentionPlan::Padded& p) {
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  const at::Tensor kq = k.to(q.scalar_type()), vq = v.to(q.scalar_type());
  return {gather_heads(q, p.query_index, shape.num_heads),
          repeat_heads(gather_heads(kq, p.key_index, shape.num_kv_heads), group),
          repeat_heads(gather_heads(vq, p.key_index, shape.num_kv_heads), group), group};
}

/// attention_forward by plain libtorch operations.
void forward_padded(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                    const AttentionPlan& plan, const at::Tensor& out, const at::Tensor& lse) {
  const auto& p = plan.padded();
  const Gathered g = gather(q, k, v, shape, p);
  const at::Tensor scores = at::matmul(g.q, g.k.transpose(2, 3)).to(at::kFloat).mul_(shape.scale()).add_(p.mask);
  const at::Tensor l = at::logsumexp(scores, {-1});  // [S, H, Lq]
  const at::Tensor probabilities = (scores - l.unsqueeze(-1)).exp_().to(q.scalar_type());
  const at::Tensor o = rows_of(at::matmul(probabilities, g.v));
  out.index_copy_(0, p.query_rows, o.index_select(0, p.query_valid));
  lse.index_copy_(0, p.query_rows, l.transpose(1, 2).flatten(0, 1).index_select(0, p.query_valid));
}

/// attention_backward by plain libtorch operations.
void backward_padded(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& out, const AttentionShape& shape, const AttentionPlan& plan,
                     const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv) {
  const auto& p = plan.padded();
  const Gathered g = gather(q, k, v, shape, p);
  const auto type = q.scalar_type();
  const int64_t s = p.query_index.size(0), lq = p.query_index.size(1);
  // Padding queries must add nothing: their d_out is zero.
  const at::Tensor flat = at::zeros({s * lq, d_out.size(1)}, d_out.options());
  flat.index_copy_(0, p.query_valid, d_out.index_select(0, p.query_rows));
  const at::Tensor dout = flat.view({s, lq, shape.num_heads, -1}).transpose(1, 2);
  const at::Tensor o = gather_heads(out, p.query_index, shape.num_heads);  // [S, H, Lq, E]
  const at::Tensor scores = at::matmul(g.q, g.k.transpose(2, 3)).to(at::kFloat).mul_(shape.scale()).add_(p.mask);
  const at::Tensor probabilities = at::softmax(scores, -1);  // not from lse: padding rows have none
  const at::Tensor dp = at::matmul(dout, g.v.transpose(2, 3)).to(at::kFloat);
  const at::Tensor delta = (dout.to(at::kFloat) * o.to(at::kFloat)).sum(-1, /*keepdim=*/true);
  const at::Tensor ds = ((dp - delta) * probabilities).mul_(shape.scale()).to(type);
  const at::Tensor dqs = rows_of(at::matmul(ds, g.k));
  dq.index_copy_(0, p.query_rows, dqs.index_select(0, p.query_valid).to(dq.scalar_type()));
  const auto sum_groups = [&](const at::Tensor& x) {  // [S, H, Lk, E] -> [S * Lk, HK * E], f32
    return rows_of(x.to(at::kFloat).unflatten(1, {shape.num_kv_heads, g.group}).sum(2));
  };
  const at::Tensor key_rows = p.key_index.reshape(-1);
  const auto scatter = [&](const at::Tensor& target, const at::Tensor& x) {
    at::Tensor sum = at::zeros({target.size(0), target.size(1)}, x.options());
    sum.index_add_(0, key_rows, x);
    target.copy_(sum);
  };
  scatter(dk, sum_groups(at::matmul(ds.transpose(2, 3), g.q)));
  scatter(dv, sum_groups(at::matmul(probabilities.to(type).transpose(2, 3), dout)));
}

}  // namespace

at::Tensor attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                             const AttentionPlan& plan, const at::Tensor& out, const at::Tensor& lse) {
  if (fits_cpu_kernels(q) && fits_cpu_kernels(k)) {
    forward_cpu(q, k, v, plan.cpu(shape), out, lse);
  } else if (packed_fits(q, k, v, out, shape, plan)) {
    packed_forward(q, k, v, shape, plan.flash(), out, lse);
  } else if (flash_fits(q, k, shape, plan)) {
    return flash_forward(q, k, v, shape, plan.flash(), out, lse);
  } else {
    forward_padded(q, k, v, shape, plan, out, lse);
  }
  return out;
}

void attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const AttentionShape& shape,
                        const AttentionPlan& plan, const std::optional<Rotation>& rotation, const at::Tensor& d_qkv) {
  const int64_t heads = shape.num_heads, kv_heads = shape.num_kv_heads, e = shape.head_dim;
  const auto part = [&](int64_t begin, int64_t count) { return d_qkv.narrow(1, begin * e, count * e); };
  const at::Tensor dq = part(0, heads), dk = part(heads, kv_heads), dv = part(heads + kv_heads, kv_heads);
  if (fits_cpu_kernels(q))
    backward_cpu(d_out, q, k, v, out, lse, plan.cpu(shape), dq, dk, dv);
  else if (packed_fits(q, k, v, out, shape, plan) && packed_takes_gradients(d_out, dq, dk, dv))
    packed_backward(d_out, q, k, v, out, lse, shape, plan.flash(), dq, dk, dv);
  else if (flash_fits(q, k, shape, plan))
    return flash_backward(d_out, q, k, v, out, lse, shape, plan.flash(), rotation, dq, dk, dv);
  else
    backward_padded(d_out, q, k, v, out, shape, plan, dq, dk, dv);
  if (rotation)
    rope_apply(part(0, heads + kv_heads), heads + kv_heads, rotation->table, rotation->positions,
               RopeDirection::Inverse);
}

}  // namespace slmi::ops
