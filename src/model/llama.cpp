// The blocks and the head, forward and backward. The loader is in load.cpp.
#include "slmi/model/llama.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <optional>
#include <utility>

#include "slmi/ops/copy.h"
#include "slmi/ops/cross_entropy.h"
#include "slmi/ops/norm.h"
#include "slmi/ops/product.h"
#include "slmi/ops/swiglu.h"

namespace slmi::model {
namespace {

/// Columns [0, k) of an input buffer.
at::Tensor front(const at::Tensor& x_ext, int64_t k) {
  return x_ext.narrow(1, 0, k);
}

/// Columns of the input buffer of a group with k inputs; calibration computes it before the group is there.
int64_t buffer_width(const ops::LinearGroup& group, int64_t k) {
  return group.k() == 0 ? k : group.input_width();
}

/// x A^T, as it lies in a group's input buffer.
at::Tensor update_input(const at::Tensor& x_ext, const ops::LinearGroup& group) {
  return x_ext.narrow(1, group.k(), x_ext.size(1) - group.k());
}

/// Drops a group's input buffer, all but x A^T: to make that again would be another product.
at::Tensor take_update_input(at::Tensor& x_ext, const ops::LinearGroup& group) {
  const at::Tensor part = update_input(x_ext, group);
  const at::Tensor u = at::empty({part.size(0), part.size(1)}, part.options());
  ops::copy_rows(part, u);
  x_ext.reset();
  return u;
}

void put_update_input(const at::Tensor& x_ext, const ops::LinearGroup& group, at::Tensor& u) {
  ops::copy_rows(u, update_input(x_ext, group));
  u.reset();
}

}  // namespace

uint64_t Llama::packed_bytes() const {
  uint64_t sum = embedding_.bytes() + (output_.defined() ? output_.bytes() : 0);
  for (const auto& b : blocks_)
    for (const auto* group : {&b.qkv, &b.output, &b.gate_up, &b.down}) sum += group->packed_bytes();
  return sum;
}

void Llama::attach(const Lora& lora) {
  for (auto& b : blocks_) {
    for (auto* group : {&b.qkv, &b.output, &b.gate_up, &b.down}) {
      std::vector<ops::LoraPair> pairs;
      for (const auto& site : group->sites()) pairs.push_back(lora.pair(site.layer, site.module));
      group->attach(std::move(pairs));
    }
  }
}

void Llama::detach() {
  for (auto& b : blocks_)
    for (auto* group : {&b.qkv, &b.output, &b.gate_up, &b.down}) group->detach();
}

void Llama::refresh_adapters() {
  std::vector<ops::LinearGroup*> groups;
  for (auto& b : blocks_)
    for (auto* group : {&b.qkv, &b.output, &b.gate_up, &b.down}) groups.push_back(group);
  ops::LinearGroup::refresh_adapters(groups);
}

ops::AttentionShape Llama::attention_shape() const {
  return {config_.num_heads, config_.num_kv_heads, config_.head_dim};
}

at::Tensor Llama::embed(const at::Tensor& tokens) const {
  return embedding_.rows(tokens);
}

at::Tensor Llama::normed_input(const at::Tensor& x, const at::Tensor& weight, int64_t width, at::Tensor& rstd) const {
  const at::Tensor out = at::empty({x.size(0), width}, x.options().dtype(compute_type()));
  rstd = at::empty({x.size(0)}, x.options());
  ops::rms_norm_forward(x, weight, config_.rms_norm_eps, front(out, config_.hidden_size), rstd);
  return out;
}

/// hidden + y, and its norm in a buffer of `width` columns, in one pass.
at::Tensor Llama::add_and_norm(const at::Tensor& hidden, const at::Tensor& y, const at::Tensor& weight, int64_t width,
                               at::Tensor& normed, at::Tensor& rstd) const {
  normed = at::empty({hidden.size(0), width}, y.options());
  rstd = at::empty({hidden.size(0)}, hidden.options());
  return ops::add_rms_norm_forward(hidden, y, weight, config_.rms_norm_eps, front(normed, config_.hidden_size), rstd);
}

/// Returns what the output matrix is multiplied with, [T, H*E + R].
at::Tensor Llama::attend_part(const Block& block, const at::Tensor& hidden, const ForwardContext& context,
                              BlockSaved& s, int64_t layer) const {
  const int64_t tokens = hidden.size(0), heads = config_.num_heads, kv_heads = config_.num_kv_heads,
                e = config_.head_dim;
  s.input = hidden;
  if (!s.qkv_in.defined()) s.qkv_in = normed_input(hidden, block.norm1, block.qkv.input_width(), s.rstd1);
  if (context.observer) context.observer(block.qkv.sites().front(), front(s.qkv_in, block.qkv.k()));
  s.qkv = at::empty({tokens, (heads + 2 * kv_heads) * e}, s.qkv_in.options());
  block.qkv.forward(s.qkv_in, s.qkv, context.dropout);
  ops::rope_apply(s.qkv.narrow(1, 0, (heads + kv_heads) * e), heads + kv_heads, rope_, context.positions,
                  ops::RopeDirection::Forward);

  const at::Tensor q = s.qkv.narrow(1, 0, heads * e);
  at::Tensor k = s.qkv.narrow(1, heads * e, kv_heads * e), v = s.qkv.narrow(1, (heads + kv_heads) * e, kv_heads * e);
  if (context.cache != nullptr) {
    const auto type = context.cache->keys(layer).scalar_type();
    context.cache->keys(layer).index_copy_(0, context.cache_rows, k.to(type));
    context.cache->values(layer).index_copy_(0, context.cache_rows, v.to(type));
    k = context.cache->keys(layer);
    v = context.cache->values(layer);
  }
  const at::Tensor out = at::empty({tokens, buffer_width(block.output, heads * e)}, s.qkv.options());
  s.lse = at::empty({tokens, heads}, hidden.options());
  s.attention = ops::attention_forward(q, k, v, attention_shape(), context.plan, front(out, heads * e), s.lse);
  if (context.observer) context.observer(block.output.sites().front(), front(out, heads * e));
  return out;
}

at::Tensor Llama::project(const ops::LinearGroup& group, const at::Tensor& x_ext,
                          const ops::DropoutContext* dropout) const {
  const at::Tensor projected = at::empty({x_ext.size(0), config_.hidden_size}, x_ext.options());
  group.forward(x_ext, projected, dropout);
  return projected;
}

/// The block's first half, and the norm that the second begins with.
void Llama::attention_part(const Block& block, const at::Tensor& hidden, const ForwardContext& context, BlockSaved& s,
                           int64_t layer) const {
  at::Tensor x_ext = attend_part(block, hidden, context, s, layer);
  const at::Tensor projected = project(block.output, x_ext, context.dropout);
  s.output_u =
      s.attention.is_alias_of(x_ext) ? update_input(x_ext, block.output) : take_update_input(x_ext, block.output);
  s.middle = add_and_norm(hidden, projected, block.norm2, block.gate_up.input_width(), s.mlp_in, s.rstd2);
}

void Llama::activate_part(const Block& block, const ForwardContext& context, BlockSaved& s) const {
  const int64_t tokens = s.middle.size(0), f = config_.intermediate_size;
  if (!s.mlp_in.defined()) s.mlp_in = normed_input(s.middle, block.norm2, block.gate_up.input_width(), s.rstd2);
  if (context.observer) context.observer(block.gate_up.sites().front(), front(s.mlp_in, block.gate_up.k()));
  s.gate_up = at::empty({tokens, block.gate_up.gradient_width()}, s.mlp_in.options());
  block.gate_up.forward(s.mlp_in, front(s.gate_up, 2 * f), context.dropout);
  s.activation = at::empty({tokens, buffer_width(block.down, f)}, s.gate_up.options());
  ops::swiglu_forward(front(s.gate_up, 2 * f), front(s.activation, f));
  if (context.observer) context.observer(block.down.sites().front(), front(s.activation, f));
}

at::Tensor Llama::attention_input(int64_t layer, const at::Tensor& hidden) const {
  at::Tensor rstd;
  const Block& block = blocks_[static_cast<size_t>(layer)];
  return normed_input(hidden, block.norm1, config_.hidden_size, rstd);
}

at::Tensor Llama::attend(int64_t layer, const at::Tensor& hidden, const ForwardContext& context) const {
  BlockSaved s;
  return attend_part(blocks_[static_cast<size_t>(layer)], hidden, context, s, layer);
}

at::Tensor Llama::after_attention(int64_t layer, const at::Tensor& hidden, const at::Tensor& attention) const {
  return ops::add_residual(hidden, project(blocks_[static_cast<size_t>(layer)].output, attention, nullptr));
}

at::Tensor Llama::mlp_input(int64_t layer, const at::Tensor& middle) const {
  at::Tensor rstd;
  const Block& block = blocks_[static_cast<size_t>(layer)];
  return normed_input(middle, block.norm2, config_.hidden_size, rstd);
}

at::Tensor Llama::activate(int64_t layer, const at::Tensor& middle) const {
  BlockSaved s;
  s.middle = middle;
  activate_part(blocks_[static_cast<size_t>(layer)], {}, s);
  return s.activation;
}

at::Tensor Llama::after_mlp(int64_t layer, const at::Tensor& middle, const at::Tensor& activation) const {
  return ops::add_residual(middle, project(blocks_[static_cast<size_t>(layer)].down, activation, nullptr));
}

/// Where SwiGLU's gradient can have that of A with it, an activation that was kept would only be read once more.
bool Llama::makes_activation_again(const Block& block, const at::Tensor& gate_up,
                                   const ops::DropoutContext* dropout) const {
  const int64_t rank = block.down.input_width() - block.down.k();
  return dropout == nullptr && block.down.gives_a_gradients() &&
         ops::swiglu_lora_fits(front(gate_up, 2 * config_.intermediate_size), rank);
}

at::Tensor Llama::block_forward(int64_t layer, const at::Tensor& hidden, const ForwardContext& context,
                                SavePolicy policy, BlockSaved* saved, NormedInput& normed) const {
  const Block& block = blocks_[static_cast<size_t>(layer)];
  BlockSaved s;
  s.qkv_in = std::exchange(normed.values, {});
  s.rstd1 = normed.rstd;
  attention_part(block, hidden, context, s, layer);
  const bool keeps = saved != nullptr && policy != SavePolicy::None;
  if (!keeps)
    for (auto* t : {&s.qkv_in, &s.qkv, &s.attention, &s.output_u}) t->reset();
  activate_part(block, context, s);
  if (!keeps)
    for (auto* t : {&s.mlp_in, &s.gate_up}) t->reset();
  const at::Tensor projected = project(block.down, s.activation, context.dropout);
  const Block* next = layer + 1 < config_.num_layers ? &block + 1 : nullptr;
  const at::Tensor out = next == nullptr ? ops::add_residual(s.middle, projected)
                                         : add_and_norm(s.middle, projected, next->norm1, next->qkv.input_width(),
                                                        normed.values, normed.rstd);
  if (saved == nullptr) return out;
  if (policy == SavePolicy::None) {
    *saved = {};
    saved->input = options_.device.is_cpu() ? hidden : hidden.to(compute_type());
    return out;
  }
  if (policy == SavePolicy::Light) {
    s.qkv_u = take_update_input(s.qkv_in, block.qkv);
    s.mlp_u = take_update_input(s.mlp_in, block.gate_up);
  }
  if (policy == SavePolicy::Light || makes_activation_again(block, s.gate_up, context.dropout))
    s.down_u = take_update_input(s.activation, block.down);
  *saved = std::move(s);
  return out;
}

/// The gradient of the residual stream as the product of `group` takes it.
at::Tensor Llama::output_gradient(const ops::LinearGroup& group, HiddenGradient& d_hidden) const {
  const int64_t width = group.gradient_width();
  if (d_hidden.rounded.defined() && d_hidden.rounded.size(1) == width) return d_hidden.rounded;
  if (width == config_.hidden_size) return d_hidden.values.to(compute_type());
  d_hidden.rounded = at::empty({d_hidden.values.size(0), width}, d_hidden.values.options().dtype(compute_type()));
  front(d_hidden.rounded, config_.hidden_size).copy_(d_hidden.values);
  return d_hidden.rounded;
}

/// Adds a norm's gradient to that of the stream; rounds it for `next` (null: nobody) on the way where a kernel does.
void Llama::norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                          const ops::LinearGroup* next, HiddenGradient& d_hidden, const at::Tensor& remade) const {
  d_hidden.rounded.reset();
  if (next != nullptr && !options_.device.is_cpu() && compute_type() != at::kFloat)
    d_hidden.rounded = at::empty({x.size(0), next->gradient_width()}, dy.options());
  ops::rms_norm_backward(dy, x, weight, rstd, d_hidden.values,
                         d_hidden.rounded.defined() ? front(d_hidden.rounded, config_.hidden_size) : at::Tensor(),
                         remade);
}

/// The second half of a block, backwards. Where the widest activations are not there, a GPU makes them for some rows at
/// a time: they are most of what a block needs at once.
void Llama::mlp_backward(const Block& block, const ops::DropoutContext* dropout, BlockSaved& s,
                         HiddenGradient& d_hidden) const {
  constexpr int64_t kMostRows = 2048, kTile = 128;  // of a piece: full products still
  const int64_t rows = d_hidden.values.size(0);
  const at::Tensor d_out = output_gradient(block.down, d_hidden);
  if (s.gate_up.defined() || options_.device.is_cpu() || rows <= kMostRows ||
      block.down.gradient_width() != block.output.gradient_width())
    return mlp_backward_piece(block, d_out, dropout, s, [&](const at::Tensor& dy, const at::Tensor& remade) {
      norm_backward(dy, s.middle, block.norm2, s.rstd2, &block.output, d_hidden, remade);
    });
  const ops::LinearGroup::Unpacked gate_up(block.gate_up);  // of three products; down's is of one
  const int64_t pieces = (rows + kMostRows - 1) / kMostRows,
                each = (rows + pieces * kTile - 1) / (pieces * kTile) * kTile;
  for (int64_t begin = 0; begin < rows; begin += each) {
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, std::min(each, rows - begin)); };
    BlockSaved piece;
    piece.middle = part(s.middle);
    piece.mlp_in = part(s.mlp_in);
    std::optional<ops::DropoutContext> masks;
    if (dropout != nullptr) {
      masks = *dropout;
      masks->row_keys = part(dropout->row_keys);
      masks->positions = part(dropout->positions);
    }
    mlp_backward_piece(block, part(d_out), masks ? &*masks : nullptr, piece,
                       [&](const at::Tensor& dy, const at::Tensor& remade) {
                         // Rounded where the piece's own output gradient was: nobody needs that any more.
                         ops::rms_norm_backward(dy, piece.middle, block.norm2, part(s.rstd2), part(d_hidden.values),
                                                front(part(d_out), config_.hidden_size), remade);
                       });
  }
  d_hidden.rounded = d_out;
}

/// The backward pass of a group whose input is a norm's output, and of the norm. An input that was not kept is made
/// again with the norm's gradient, which reads what that takes anyway.
void Llama::normed_backward(const ops::LinearGroup& group, const at::Tensor& dy_ext, at::Tensor& x_ext, at::Tensor& u,
                            const ops::DropoutContext* dropout, const NormBackward& norm) const {
  if (x_ext.defined()) {
    const at::Tensor dx = group.backward(dy_ext, x_ext, dropout, ops::LinearGroup::InputGradient::Wanted);
    x_ext.reset();
    return norm(dx, {});
  }
  group.backward_remaking(dy_ext, u, dropout, [&](const at::Tensor& dx, const auto&) {
    norm(dx, dx);
    return dx;
  });
  u.reset();
}

void Llama::mlp_backward_piece(const Block& block, const at::Tensor& d_out, const ops::DropoutContext* dropout,
                               BlockSaved& s, const NormBackward& norm) const {
  using ops::LinearGroup;
  const int64_t f = config_.intermediate_size;
  if (!s.gate_up.defined()) {
    ForwardContext context;
    context.dropout = dropout;
    activate_part(block, context, s);
    block.down.fill_update_input(s.activation, dropout);
    if (makes_activation_again(block, s.gate_up, dropout)) s.down_u = take_update_input(s.activation, block.down);
  }
  const at::Tensor gate_up = front(s.gate_up, 2 * f);
  if (s.activation.defined()) {
    const at::Tensor d_activation =
        block.down.backward(d_out, s.activation, dropout, LinearGroup::InputGradient::Wanted);
    s.activation.reset();
    ops::swiglu_backward(gate_up, d_activation, gate_up);
  } else {  // one pass over gate and up takes their gradients and makes the activation again
    block.down.backward_remaking(d_out, s.down_u, dropout, [&](const at::Tensor& d_activation, const auto& a) {
      if (a.du.defined() && ops::swiglu_lora_fits(gate_up, a.du.size(1))) {
        ops::swiglu_lora_backward(gate_up, d_activation, gate_up, a.du, a.targets.front());
        return at::Tensor();
      }
      ops::swiglu_backward(gate_up, d_activation, gate_up, d_activation);
      return d_activation;
    });
    s.down_u.reset();
  }
  normed_backward(block.gate_up, s.gate_up, s.mlp_in, s.mlp_u, dropout, norm);
  s.gate_up.reset();
}

void Llama::block_backward(int64_t layer, HiddenGradient& d_hidden, const ForwardContext& context, BlockSaved& s,
                           ops::LinearGroup::InputGradient wanted) const {
  using ops::LinearGroup;
  const Block& block = blocks_[static_cast<size_t>(layer)];
  const int64_t heads = config_.num_heads, kv_heads = config_.num_kv_heads, e = config_.head_dim;
  const auto* dropout = context.dropout;
  if (!s.qkv.defined()) {
    const at::Tensor kept = s.input;
    attention_part(block, kept.to(at::kFloat), context, s, layer);
    s.input = kept;
    s.qkv_u = take_update_input(s.qkv_in, block.qkv);  // not needed before the MLP's gradient is done
  }
  mlp_backward(block, dropout, s, d_hidden);
  s.middle.reset();
  s.mlp_in.reset();

  at::Tensor d_attention;
  block.output.backward_remaking(output_gradient(block.output, d_hidden), s.output_u, dropout,
                                 [&](const at::Tensor& dx, const auto&) {
                                   d_attention = dx;
                                   return s.attention;
                                 });
  const at::Tensor d_qkv = at::empty({s.qkv.size(0), block.qkv.gradient_width()}, s.qkv.options());
  const auto part = [&](int64_t begin, int64_t count) { return s.qkv.narrow(1, begin * e, count * e); };
  ops::attention_backward(d_attention, part(0, heads), part(heads, kv_heads), part(heads + kv_heads, kv_heads),
                          s.attention, s.lse, attention_shape(), context.plan, ops::Rotation{rope_, context.positions},
                          front(d_qkv, block.qkv.n()));
  s.qkv.reset();
  s.attention.reset();
  s.output_u.reset();
  const at::Tensor input = s.input.to(at::kFloat);
  if (wanted == LinearGroup::InputGradient::Wanted) {
    const auto* next = layer > 0 ? &blocks_[static_cast<size_t>(layer - 1)].down : nullptr;
    normed_backward(block.qkv, d_qkv, s.qkv_in, s.qkv_u, dropout, [&](const at::Tensor& dy, const at::Tensor& remade) {
      norm_backward(dy, input, block.norm1, s.rstd1, next, d_hidden, remade);
    });
  } else {
    if (!s.qkv_in.defined()) {
      s.qkv_in = normed_input(input, block.norm1, block.qkv.input_width(), s.rstd1);
      put_update_input(s.qkv_in, block.qkv, s.qkv_u);
    }
    block.qkv.backward(d_qkv, s.qkv_in, dropout, wanted);
  }
  s = {};
}

at::Tensor Llama::forward(const at::Tensor& tokens, const ForwardContext& context) const {
  at::Tensor hidden = embed(tokens);
  NormedInput normed;
  for (int64_t i = 0; i < config_.num_layers; ++i)
    hidden = block_forward(i, hidden, context, SavePolicy::All, nullptr, normed);
  return hidden;
}

at::Tensor Llama::head_weight() const {
  if (head_resident_.defined()) return head_resident_;
  const auto& matrix = output_matrix();
  if (const at::Tensor held = matrix.held_values(); held.defined() && held.scalar_type() == compute_type()) return held;
  const at::Tensor out = at::empty({matrix.n(), matrix.k()}, final_norm_.options().dtype(compute_type()));
  matrix.dequantize_into(out);
  return out;
}

at::Tensor Llama::head(const at::Tensor& hidden) const {
  return head_logits(head_input(hidden));
}

at::Tensor Llama::head_input(const at::Tensor& hidden) const {
  const at::Tensor rstd = at::empty({hidden.size(0)}, hidden.options());
  const at::Tensor normed = at::empty_like(hidden, hidden.options().dtype(compute_type()));
  ops::rms_norm_forward(hidden, final_norm_, config_.rms_norm_eps, normed, rstd);
  return normed;
}

at::Tensor Llama::head_logits(const at::Tensor& normed) const {
  const at::Tensor weight = head_weight();
  const at::Tensor logits = at::empty({normed.size(0), weight.size(0)}, normed.options());
  ops::product_into(normed, weight, logits);
  return logits;
}

at::Tensor Llama::head_loss(const at::Tensor& hidden, const at::Tensor& target_rows, const at::Tensor& target_ids,
                            const at::Tensor& d_hidden, const at::Tensor& scale) const {
  // Of logits: few rows are full products on a CPU, a GPU wants some hundred, or an eighth of a large batch: they are
  // little beside its activations.
  const int64_t chunk_bytes = int64_t{options_.device.is_cpu() ? 32 : 128} << 20;
  const int64_t count = target_rows.size(0);
  const at::Tensor weight = head_weight();
  const int64_t row_bytes = weight.size(0) * static_cast<int64_t>(weight.element_size());
  constexpr int64_t kRowTile = 256;  // a product's largest tile
  int64_t chunk = std::max<int64_t>(1, chunk_bytes / row_bytes);
  if (!options_.device.is_cpu()) chunk = std::max(chunk, hidden.size(0) / 8);
  if (!options_.device.is_cpu() && chunk > kRowTile) chunk -= chunk % kRowTile;
  const at::Tensor loss = at::empty({count}, hidden.options());
  const auto mode = d_hidden.defined() ? ops::CrossEntropyMode::LossAndGradient : ops::CrossEntropyMode::LossOnly;
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t n = std::min(chunk, count - begin);
    const at::Tensor rows = target_rows.narrow(0, begin, n);
    const at::Tensor x = hidden.index_select(0, rows);
    const at::Tensor rstd = at::empty({n}, hidden.options());
    const at::Tensor normed = at::empty({n, x.size(1)}, x.options().dtype(compute_type()));
    ops::rms_norm_forward(x, final_norm_, config_.rms_norm_eps, normed, rstd);
    const at::Tensor logits = at::mm(normed, weight.t());
    ops::cross_entropy(logits, target_ids.narrow(0, begin, n), mode, loss.narrow(0, begin, n), scale);
    if (!d_hidden.defined()) continue;
    const at::Tensor dx = at::zeros_like(x);
    ops::rms_norm_backward(at::mm(logits, weight), x, final_norm_, rstd, dx);
    d_hidden.index_add_(0, rows, dx);
  }
  return loss;
}

}  // namespace slmi::model
