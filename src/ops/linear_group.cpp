// Linear groups; see the header for the idea.
#include "slmi/ops/linear_group.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <iterator>

#include "slmi/base/error.h"
#include "slmi/ops/copy.h"
#include "slmi/ops/dropout.h"
#include "slmi/ops/product.h"
#include "thin_products.h"

namespace slmi::ops {

LinearGroup::LinearGroup(std::vector<PackedMatrix> matrices, std::vector<LinearSite> sites, Compute compute,
                         Residency residency)
    : matrices_(std::move(matrices)), sites_(std::move(sites)), compute_(compute), residency_(residency) {
  k_ = matrices_.front().k();
  for (const auto& m : matrices_) {
    require(m.k() == k_, ErrorKind::Internal, "linear group: {} has {} columns, its neighbour {}", m.name(), m.k(), k_);
    n_ += m.n();
  }
}

uint64_t LinearGroup::packed_bytes() const {
  uint64_t sum = 0;
  for (const auto& m : matrices_) sum += m.bytes();
  return sum;
}

void LinearGroup::attach(std::vector<LoraPair> adapters) {
  require(adapters.size() == matrices_.size(), ErrorKind::Internal, "linear group: {} adapters for {} matrices",
          adapters.size(), matrices_.size());
  adapters_ = std::move(adapters);
  total_rank_ = 0;
  for (const auto& lora : adapters_)
    if (lora.a.defined()) total_rank_ += lora.a.size(0);
  a_.reset();
  resident_.reset();
  thin_ = {};
  gemm_ = {};
  refresh_adapters();
}

void LinearGroup::detach() {
  attach(std::vector<LoraPair>(matrices_.size()));
}

void LinearGroup::refresh_adapters() {
  if (takes_thin_products()) return thin_refresh(thin_adapters());
  const auto device = matrices_.front().device();
  const auto options = at::TensorOptions().dtype(scalar_type(compute_)).device(device);
  if (total_rank_ > 0) {
    if (!a_.defined()) a_ = at::empty({total_rank_, k_}, options);
    int64_t row = 0;
    for (const auto& lora : adapters_) {
      if (!lora.a.defined()) continue;
      a_.narrow(0, row, lora.a.size(0)).copy_(lora.a);
      row += lora.a.size(0);
    }
  }
  if (residency_ == Residency::Transient) return;
  if (GemmWeights::fit(compute_, device, n_, k_, total_rank_)) return refresh_packed();
  if (resident_.defined()) return write_update_columns(resident_);
  residency_ = Residency::Transient;  // weight() then builds the whole matrix
  resident_ = weight();
  residency_ = Residency::Resident;
}

void LinearGroup::refresh_adapters(const std::vector<LinearGroup*>& groups) {
  if (groups.front()->matrices_.front().device().is_cpu())
    return parallel(static_cast<int64_t>(groups.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) groups[static_cast<size_t>(i)]->refresh_adapters();
    });
  std::vector<ThinAdapter> thin;
  for (auto* group : groups) {
    if (group->takes_thin_products())
      std::ranges::move(group->thin_adapters(), std::back_inserter(thin));
    else
      group->refresh_adapters();
  }
  thin_refresh(thin);
}

bool LinearGroup::takes_thin_products() const {
  if (matrices_.front().device().is_cpu() || compute_ == Compute::F32 || total_rank_ == 0 ||
      adapters_.size() > kMostThinAdapters)
    return false;
  const auto& first = adapters_.front();
  return std::all_of(adapters_.begin(), adapters_.end(), [&](const LoraPair& lora) {
    return lora.a.defined() && lora.a.size(0) == first.a.size(0) && lora.scale == first.scale;
  });
}

std::vector<ThinAdapter> LinearGroup::thin_adapters() {
  if (thin_.rank == 0) {
    const auto& first = adapters_.front();
    const auto options = at::TensorOptions().dtype(scalar_type(compute_)).device(matrices_.front().device());
    thin_.rank = first.a.size(0);
    thin_.scale = first.scale;
    thin_.transposed = at::empty({thin_.rank, n_}, options);
    if (residency_ == Residency::Resident) {
      resident_ = at::empty({n_ + total_rank_, input_width()}, options);
      dequantize_into(resident_);
      a_ = resident_.narrow(0, n_, total_rank_).narrow(1, 0, k_);
      thin_.columns = resident_.narrow(0, 0, n_).narrow(1, k_, total_rank_);
    } else {
      a_ = at::empty({total_rank_, k_}, options);
      thin_.columns = at::empty({n_, total_rank_}, options);
    }
    thin_.columns.zero_();
  }
  std::vector<ThinAdapter> forms;
  int64_t row = 0, column = 0;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const auto& lora = adapters_[i];
    const int64_t n = matrices_[i].n();
    forms.push_back({lora.a, lora.b, lora.scale, a_.narrow(0, column, thin_.rank),
                     thin_.columns.narrow(0, row, n).narrow(1, column, thin_.rank),
                     thin_.transposed.narrow(1, row, n)});
    row += n;
    column += thin_.rank;
  }
  return forms;
}

void LinearGroup::refresh_packed() {
  const bool trains =
      std::any_of(adapters_.begin(), adapters_.end(), [](const LoraPair& p) { return p.grad_a.defined(); });
  const bool forward = !gemm_.has_forward(), backward = trains && !gemm_.has_backward();
  at::Tensor base;
  if (forward || backward) base = base_weight().narrow(1, 0, k_);
  if (forward) gemm_.pack_forward(base, total_rank_);
  if (total_rank_ > 0) gemm_.set_a(a_);
  each_update(
      [&](const at::Tensor& b, int64_t row, int64_t column) { gemm_.set_scaled_b(b.to(at::kBFloat16), row, column); });
  if (backward) gemm_.pack_backward(base);
  if (base.defined())
    for (const auto& m : matrices_) m.page_out();
}

/// The matrices, one under the other, into the first N rows and K columns of out.
void LinearGroup::dequantize_into(const at::Tensor& out) const {
  int64_t row = 0;
  for (const auto& m : matrices_) {
    m.dequantize_into(out.narrow(0, row, m.n()).narrow(1, 0, k_));
    row += m.n();
  }
}

/// [N, K + total rank] in the compute type, the last columns not yet written.
at::Tensor LinearGroup::base_weight() const {
  const auto options = at::TensorOptions().dtype(scalar_type(compute_)).device(matrices_.front().device());
  const at::Tensor weight = at::empty({n_, input_width()}, options);
  dequantize_into(weight);
  return weight;
}

LinearGroup::Unpacked::Unpacked(const LinearGroup& group) : group_(group) {
  if (group.residency_ == Residency::Resident || group.thin_.rank == 0) return;
  const at::Tensor weight = at::empty({group.n_ + group.total_rank_, group.input_width()}, group.a_.options());
  group.dequantize_into(weight);
  copy_rows(group.thin_.columns, weight.narrow(0, 0, group.n_).narrow(1, group.k_, group.total_rank_));
  copy_rows(group.a_, weight.narrow(0, group.n_, group.total_rank_).narrow(1, 0, group.k_));
  group.unpacked_ = weight;
}

at::Tensor LinearGroup::weight() const {
  if (residency_ == Residency::Resident) return resident_.narrow(0, 0, n_);
  if (unpacked_.defined()) return unpacked_.narrow(0, 0, n_);
  const at::Tensor weight = base_weight();
  if (thin_.rank > 0) {
    copy_rows(thin_.columns, weight.narrow(1, k_, total_rank_));
  } else if (total_rank_ > 0) {
    weight.narrow(1, k_, total_rank_).zero_();
    write_update_columns(weight);
  }
  return weight;
}

/// [N + total rank, K]: the base, and A below it, so that [dy | du] gives the whole gradient of x in one product.
at::Tensor LinearGroup::input_gradient_weight() const {
  if (residency_ == Residency::Resident) return resident_.narrow(1, 0, k_);
  if (unpacked_.defined()) return unpacked_.narrow(1, 0, k_);
  const at::Tensor weight = at::empty({n_ + total_rank_, k_}, a_.options());
  dequantize_into(weight);
  copy_rows(a_, weight.narrow(0, n_, total_rank_));
  return weight;
}

template <class Body>
void LinearGroup::each_update(const Body& body) const {
  int64_t row = 0, column = 0;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const auto& lora = adapters_[i];
    if (lora.a.defined()) {
      body(lora.b * lora.scale, row, column);
      column += lora.a.size(0);
    }
    row += matrices_[i].n();
  }
}

void LinearGroup::write_update_columns(const at::Tensor& weight) const {
  each_update([&](const at::Tensor& b, int64_t row, int64_t column) {
    weight.narrow(0, row, b.size(0)).narrow(1, k_ + column, b.size(1)).copy_(b);
  });
}

at::Tensor LinearGroup::dropped(const at::Tensor& x, const DropoutContext& dropout) const {
  const at::Tensor out = at::empty({x.size(0), x.size(1)}, x.options());
  apply_dropout(x, dropout, site_number(sites_.front()), out);
  return out;
}

void LinearGroup::fill_update_input(const at::Tensor& x_ext, const DropoutContext* dropout) const {
  if (total_rank_ == 0) return;
  at::Tensor x = x_ext.narrow(1, 0, k_);
  if (dropout != nullptr) x = dropped(x, *dropout);
  if (gemm_.has_forward()) return gemm_.update_input(x, x_ext);
  const at::Tensor u = x_ext.narrow(1, k_, total_rank_);
  thin_fits(x, {0, k_}, total_rank_) ? thin_project(x, a_, {0, k_}, u) : product_into(x, a_, u);
}

void LinearGroup::forward(const at::Tensor& x_ext, const at::Tensor& y, const DropoutContext* dropout) const {
  if (gemm_.has_forward()) {
    if (dropout == nullptr) return gemm_.forward(x_ext, y, GemmWeights::Fill::UpdateInput);
    fill_update_input(x_ext, dropout);
    return gemm_.forward(x_ext, y, GemmWeights::Fill::Nothing);
  }
  fill_update_input(x_ext, dropout);
  product_into(x_ext, weight(), y);
}

at::Tensor LinearGroup::backward(const at::Tensor& dy_ext, const at::Tensor& x_ext, const DropoutContext* dropout,
                                 InputGradient wanted) const {
  return run_backward(dy_ext, {x_ext.narrow(1, k_, total_rank_), x_ext.narrow(1, 0, k_)}, dropout, wanted);
}

void LinearGroup::backward_remaking(const at::Tensor& dy_ext, const at::Tensor& u, const DropoutContext* dropout,
                                    const RemakeInput& remake) const {
  run_backward(dy_ext, {u, {}, &remake}, dropout, InputGradient::Wanted);
}

at::Tensor LinearGroup::run_backward(const at::Tensor& dy_ext, const Kept& kept, const DropoutContext* dropout,
                                     InputGradient wanted) const {
  at::Tensor du, dx;
  if (thin_.rank > 0 && thin_backward(dy_ext, kept, dropout, wanted, dx)) return dx;
  const at::Tensor dy = dy_ext.narrow(1, 0, n_);
  if (gemm_.has_forward()) {
    dx = packed_backward(dy, dropout, wanted, du);
  } else if (const at::Tensor w = weight(); wanted == InputGradient::Wanted) {
    const at::Tensor dx_ext = at::mm(dy, w);
    dx = dx_ext.narrow(1, 0, k_);
    if (total_rank_ > 0) {
      du = dx_ext.narrow(1, k_, total_rank_);
      dx = dropout == nullptr ? at::addmm(dx, du, a_) : dx + dropped(at::mm(du, a_), *dropout);
    }
  } else if (total_rank_ > 0) {
    du = at::mm(dy, w.narrow(1, k_, total_rank_));
  }
  const at::Tensor x = kept.input(dx, {});
  if (total_rank_ > 0) accumulate(dy, du, kept.u, x, dropout);
  return dx;
}

at::Tensor LinearGroup::packed_backward(const at::Tensor& dy, const DropoutContext* dropout, InputGradient wanted,
                                        at::Tensor& du) const {
  if (total_rank_ > 0) du = gemm_.update_gradient(dy);
  if (wanted == InputGradient::Unwanted) return {};
  if (!gemm_.has_backward()) gemm_.pack_backward(base_weight().narrow(1, 0, k_));
  if (dropout == nullptr || total_rank_ == 0) return gemm_.input_gradient(dy, du);
  return gemm_.input_gradient(dy, {}) + dropped(at::mm(du, a_), *dropout);
}

/// The backward pass with the adapters' products by our own kernels; false, and nothing done, where they do not take
/// the rows.
bool LinearGroup::thin_backward(const at::Tensor& dy_ext, const Kept& kept, const DropoutContext* dropout,
                                InputGradient wanted, at::Tensor& dx) const {
  const at::Tensor dy = dy_ext.narrow(1, 0, n_), du = dy_ext.narrow(1, n_, total_rank_);
  ColumnBegins begin = {0};
  std::vector<at::Tensor> grad_a, grad_b;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    begin.push_back(begin.back() + matrices_[i].n());
    grad_a.push_back(adapters_[i].grad_a);
    grad_b.push_back(adapters_[i].grad_b);
  }
  at::Tensor room;
  if (wanted == InputGradient::Wanted) room = at::empty({dy.size(0), k_}, dy.options());
  if (!thin_fits(dy, begin, thin_.rank) || !thin_fits(kept.x.defined() ? kept.x : room, {0, k_}, total_rank_))
    return false;
  thin_update_gradients(dy, thin_.transposed, kept.u, begin, thin_.scale, du, grad_b);
  if (wanted == InputGradient::Wanted) {
    dx = room;
    const at::Tensor w = input_gradient_weight();
    if (dropout == nullptr)
      at::mm_out(dx, dy_ext, w);
    else
      at::mm_out(dx, dy, w.narrow(0, 0, n_)).add_(dropped(at::mm(du, a_), *dropout));
  }
  at::Tensor x = kept.input(dx, dropout == nullptr ? AGradients{du, grad_a} : AGradients{});
  if (!x.defined()) return true;
  if (dropout != nullptr) x = dropped(x, *dropout);
  thin_gradient_a(x, du, grad_a);
  return true;
}

/// Adds to the gradients of all adapters, given that of u = x A^T.
void LinearGroup::accumulate(const at::Tensor& dy, const at::Tensor& du, const at::Tensor& u, const at::Tensor& x,
                             const DropoutContext* dropout) const {
  const at::Tensor da = at::mm(du.t(), dropout != nullptr ? dropped(x, *dropout) : x);
  int64_t row = 0, out_column = 0;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const auto& lora = adapters_[i];
    const int64_t n = matrices_[i].n();
    if (lora.a.defined()) {
      const int64_t rank = lora.a.size(0);
      lora.grad_a.add_(da.narrow(0, row, rank));
      lora.grad_b.add_(at::mm(dy.narrow(1, out_column, n).t(), u.narrow(1, row, rank)), lora.scale);
      row += rank;
    }
    out_column += n;
  }
}

}  // namespace slmi::ops
