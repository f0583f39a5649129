// FlashAttention over packed rows; see the header.
#include "flash_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "cuda_types.h"
#include "slmi/ops/copy.h"

namespace slmi::ops {
namespace {

/// [rows, heads * E] -> [rows, heads, E].
at::Tensor heads_of(const at::Tensor& x, int64_t heads) {
  return x.unflatten(1, {heads, -1});
}

struct Heads {
  at::Tensor q, k, v;  // [rows, H, E], [rows, HK, E]
};

Heads heads_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape) {
  return {heads_of(q, shape.num_heads), heads_of(k, shape.num_kv_heads), heads_of(v, shape.num_kv_heads)};
}

/// The part of it that has to do with prefixes.
Heads sharing_part(const Heads& all, const AttentionPlan::Flash& plan) {
  return {all.q.index_select(0, plan.sharing_rows), all.k.index_select(0, plan.prefix_rows),
          all.v.index_select(0, plan.prefix_rows)};
}

/// (out [rows, H, E], log-sum-exp f32 [H, rows]).
std::tuple<at::Tensor, at::Tensor> forward(const Heads& h, const at::Tensor& q_offsets, const at::Tensor& k_offsets,
                                           int64_t longest_q, int64_t longest_k, bool causal, double scale) {
  const auto result = at::_flash_attention_forward(h.q, h.k, h.v, q_offsets, k_offsets, longest_q, longest_k,
                                                   /*dropout_p=*/0.0, causal, /*return_debug_mask=*/false, scale);
  return {std::get<0>(result), std::get<1>(result)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& d_out, const Heads& h, const at::Tensor& out,
                                                        const at::Tensor& lse, const at::Tensor& q_offsets,
                                                        const at::Tensor& k_offsets, int64_t longest_q,
                                                        int64_t longest_k, bool causal, double scale) {
  const at::Tensor unused = at::empty({2}, q_offsets.options().dtype(at::kUInt64));  // of dropout
  return at::_flash_attention_backward(d_out, h.q, h.k, h.v, out, lse, q_offsets, k_offsets, longest_q, longest_k,
                                       /*dropout_p=*/0.0, causal, unused, unused, scale);
}

void add_rows(const at::Tensor& target, const at::Tensor& rows, const at::Tensor& values) {
  target.index_copy_(0, rows, target.index_select(0, rows) + values.flatten(1));
}

}  // namespace

bool flash_serves(at::Device device, at::ScalarType type, const AttentionShape& shape) {
  return device.is_cuda() && (type == at::kBFloat16 || type == at::kHalf) && compute_capability(device) >= 80 &&
         shape.head_dim % 8 == 0 && shape.head_dim <= 256;
}

bool flash_fits(const at::Tensor& q, const at::Tensor& k, const AttentionShape& shape, const AttentionPlan& plan) {
  return flash_serves(q.device(), q.scalar_type(), shape) && k.scalar_type() == q.scalar_type() &&
         plan.flash().offsets.defined();
}

at::Tensor flash_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                         const AttentionPlan::Flash& plan, const at::Tensor& out, const at::Tensor& lse) {
  const Heads all = heads_of(q, k, v, shape);
  const auto [own, own_lse] =
      forward(all, plan.offsets, plan.offsets, plan.longest, plan.longest, /*causal=*/true, shape.scale());
  copy_rows(own.flatten(1), out);
  lse.copy_(own_lse.t());
  if (!plan.sharing_rows.defined()) return own.flatten(1);
  const auto [more, more_lse] = forward(sharing_part(all, plan), plan.sharing_offsets, plan.prefix_offsets,
                                        plan.most_sharing, plan.longest_prefix, /*causal=*/false, shape.scale());
  const at::Tensor a = lse.index_select(0, plan.sharing_rows), b = more_lse.t();
  const at::Tensor both = at::logaddexp(a, b);
  const auto weighted = [&](const at::Tensor& x, const at::Tensor& x_lse) {
    return x.to(at::kFloat) * (x_lse - both).exp_().unsqueeze(2);
  };
  const at::Tensor merged = weighted(own.index_select(0, plan.sharing_rows), a) + weighted(more, b);
  out.index_copy_(0, plan.sharing_rows, merged.to(out.scalar_type()).flatten(1));
  lse.index_copy_(0, plan.sharing_rows, both);
  return out;
}

void flash_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const at::Tensor& out, const at::Tensor& lse, const AttentionShape& shape,
                    const AttentionPlan::Flash& plan, const std::optional<Rotation>& rotation, const at::Tensor& dq,
                    const at::Tensor& dk, const at::Tensor& dv) {
  // Probabilities are made anew from the merged log-sum-exp, and the merged output gives each row's own term: each pass
  // then finds its part of the gradients.
  const Heads all = heads_of(q, k, v, shape);
  const at::Tensor whole_out = heads_of(out, shape.num_heads), whole_d_out = heads_of(d_out, shape.num_heads),
                   whole_lse = lse.t().contiguous();
  const auto own = backward(whole_d_out, all, whole_out, whole_lse, plan.offsets, plan.offsets, plan.longest,
                            plan.longest, /*causal=*/true, shape.scale());
  const bool shares = plan.sharing_rows.defined();
  const auto give = [&](const at::Tensor& gradient, int64_t heads, const at::Tensor& to) {
    rotation && !shares
        ? rope_into(gradient.flatten(1), heads, rotation->table, rotation->positions, RopeDirection::Inverse, to)
        : copy_rows(gradient.flatten(1), to);
  };
  give(std::get<0>(own), shape.num_heads, dq);
  give(std::get<1>(own), shape.num_kv_heads, dk);
  copy_rows(std::get<2>(own).flatten(1), dv);
  if (!shares) return;
  const auto pick = [&](const at::Tensor& x) { return x.index_select(0, plan.sharing_rows); };
  const auto more = backward(pick(whole_d_out), sharing_part(all, plan), pick(whole_out),
                             whole_lse.index_select(1, plan.sharing_rows), plan.sharing_offsets, plan.prefix_offsets,
                             plan.most_sharing, plan.longest_prefix, /*causal=*/false, shape.scale());
  add_rows(dq, plan.sharing_rows, std::get<0>(more));
  add_rows(dk, plan.prefix_rows, std::get<1>(more));
  add_rows(dv, plan.prefix_rows, std::get<2>(more));
  if (!rotation) return;
  rope_apply(dq, shape.num_heads, rotation->table, rotation->positions, RopeDirection::Inverse);
  rope_apply(dk, shape.num_kv_heads, rotation->table, rotation->positions, RopeDirection::Inverse);
}

PrefixRows::PrefixRows(const std::vector<AttentionSegment>& segments) {
  std::map<int64_t, std::vector<const AttentionSegment*>> behind;  // by the prefix's first row
  for (const auto& s : segments) {
    of_segment.push_back(static_cast<int32_t>(s.prefix_begin));
    of_segment.push_back(static_cast<int32_t>(s.prefix_len));
    if (s.prefix_len > 0) behind[s.prefix_begin].push_back(&s);
  }
  const auto append = [](std::vector<int64_t>& rows, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) rows.push_back(begin + i);
  };
  for (const auto& [begin, members] : behind) {
    for (const auto* s : members) append(sharing, s->q_begin, s->q_len);
    append(prefix, begin, members.front()->prefix_len);
    sharing_offsets.push_back(static_cast<int32_t>(sharing.size()));
    prefix_offsets.push_back(static_cast<int32_t>(prefix.size()));
  }
}

const AttentionPlan::Flash& AttentionPlan::flash() const {
  if (flash_) return *flash_;
  auto out = std::make_shared<Flash>();
  std::vector<int32_t> offsets = {0};
  for (const auto& s : segments_) {
    if (s.q_begin != offsets.back() || s.own_begin != s.q_begin || s.own_len != s.q_len) {
      flash_ = std::make_shared<Flash>();
      return *flash_;
    }
    offsets.push_back(static_cast<int32_t>(s.q_begin + s.q_len));
    out->longest = std::max(out->longest, s.q_len);
  }
  const auto upload = [&](const auto& values, at::ScalarType type) {
    return at::tensor(values, at::TensorOptions().dtype(type)).to(device_);
  };
  const auto longest = [](const std::vector<int32_t>& begins) {
    int64_t most = 0;
    for (size_t i = 1; i < begins.size(); ++i) most = std::max<int64_t>(most, begins[i] - begins[i - 1]);
    return most;
  };
  out->offsets = upload(offsets, at::kInt);
  if (const PrefixRows rows(segments_); !rows.prefix.empty()) {
    out->sharing_rows = upload(rows.sharing, at::kLong);
    out->prefix_rows = upload(rows.prefix, at::kLong);
    out->sharing_offsets = upload(rows.sharing_offsets, at::kInt);
    out->prefix_offsets = upload(rows.prefix_offsets, at::kInt);
    out->most_sharing = longest(rows.sharing_offsets);
    out->longest_prefix = longest(rows.prefix_offsets);
    out->segment_prefix = upload(rows.of_segment, at::kInt).view({-1, 2});
  }
  flash_ = out;
  return *flash_;
}

}  // namespace slmi::ops
