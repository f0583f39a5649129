// Packed weights of a linear group; see the header.
#include "slmi/ops/gemm_weights.h"

#include <ATen/ATen.h>

#include "cpu_types.h"
#include "slmi/kernels/cpu/gemm.h"

namespace slmi::ops {
namespace {

using kernels::cpu::Bf16;
using kernels::cpu::GemmRows;

/// Rows a task at least: one tile of the kernel.
constexpr int64_t kTaskRows = 12;

at::Tensor room(int64_t k, int64_t n) {
  return at::zeros({kernels::cpu::gemm_packed_elements(k, n)}, at::kBFloat16);
}

/// Packs `b` [rows, columns], any strides, at (k_begin, n_begin) of a packed matrix with k rows.
void pack(const at::Tensor& b, int64_t k_begin, int64_t n_begin, int64_t k, const at::Tensor& packed) {
  kernels::cpu::gemm_pack(pointer<Bf16>(b), b.stride(0), b.stride(1),
                          {k_begin, k_begin + b.size(0), n_begin, n_begin + b.size(1)}, k, pointer<Bf16>(packed));
}

/// The same of a big matrix, on all threads: panel by panel.
void pack_parallel(const at::Tensor& b, int64_t k, const at::Tensor& packed) {
  parallel(kernels::cpu::gemm_panels(b.size(1)), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kernels::cpu::kGemmPanel, last = std::min(b.size(1), end * kernels::cpu::kGemmPanel);
    kernels::cpu::gemm_pack(pointer<Bf16>(b) + first * b.stride(1), b.stride(0), b.stride(1),
                            {0, b.size(0), first, last}, k, pointer<Bf16>(packed));
  });
}

GemmRows rows_of(const at::Tensor& a) {
  return {.a = pointer<Bf16>(a), .a_stride = a.stride(0), .k = a.size(1)};
}

void product(const GemmRows& rows, const at::Tensor& packed, const at::Tensor& y, int64_t begin, int64_t end) {
  kernels::cpu::gemm(rows, pointer<Bf16>(packed), y.size(1), pointer<Bf16>(y), y.stride(0), begin, end, 0,
                     kernels::cpu::gemm_panels(y.size(1)));
}

/// body(begin, end) over rows. Few rows are not worth a split; `wide` is then called, to split columns.
template <class Body, class Wide>
void over_rows(int64_t rows, const Body& body, const Wide& wide) {
  if (rows < kTaskRows * at::get_num_threads()) return wide();
  parallel(rows, kTaskRows, body);
}

/// One product on all threads, by rows or by columns.
void product_on_all(const GemmRows& rows, const at::Tensor& packed, const at::Tensor& y) {
  over_rows(
      y.size(0), [&](int64_t begin, int64_t end) { product(rows, packed, y, begin, end); },
      [&] {
        parallel(kernels::cpu::gemm_panels(y.size(1)), 1, [&](int64_t begin, int64_t end) {
          kernels::cpu::gemm(rows, pointer<Bf16>(packed), y.size(1), pointer<Bf16>(y), y.stride(0), 0, y.size(0), begin,
                             end);
        });
      });
}

}  // namespace

bool GemmWeights::fit(Compute compute, at::Device device, int64_t n, int64_t k, int64_t rank) {
  return compute == Compute::BF16 && device.is_cpu() && kernels::cpu::simd().bf16 && n % 2 == 0 && k % 2 == 0 &&
         rank % 2 == 0;
}

void GemmWeights::pack_forward(const at::Tensor& w, int64_t rank) {
  n_ = w.size(0);
  k_ = w.size(1);
  rank_ = rank;
  forward_ = room(k_ + rank_, n_);
  backward_.reset();
  pack_parallel(w.t(), k_ + rank_, forward_);
  if (rank_ == 0) return;
  input_ = room(k_, rank_);
  update_ = room(n_, rank_);
}

void GemmWeights::pack_backward(const at::Tensor& w) {
  backward_ = room(n_ + rank_, k_);
  pack_parallel(w, n_ + rank_, backward_);
  if (rank_ > 0) pack(a_, n_, 0, n_ + rank_, backward_);
}

void GemmWeights::set_a(const at::Tensor& a) {
  a_ = a;
  pack(a.t(), 0, 0, k_, input_);
  if (backward_.defined()) pack(a, n_, 0, n_ + rank_, backward_);
}

void GemmWeights::set_scaled_b(const at::Tensor& scaled_b, int64_t row, int64_t column) {
  pack(scaled_b.t(), k_ + column, row, k_ + rank_, forward_);
  pack(scaled_b, row, column, n_, update_);
}

void GemmWeights::update_input(const at::Tensor& x, const at::Tensor& x_ext) const {
  product_on_all(rows_of(x), input_, x_ext.narrow(1, k_, rank_));
}

void GemmWeights::forward(const at::Tensor& x_ext, const at::Tensor& y, Fill fill) const {
  const bool fills = fill == Fill::UpdateInput && rank_ > 0;
  over_rows(
      y.size(0),
      [&](int64_t begin, int64_t end) {  // a thread's rows of u are read by the same thread: no waiting between
        if (fills) {
          Bf16* x = pointer<Bf16>(x_ext);
          const GemmRows rows = {.a = x, .a_stride = x_ext.stride(0), .k = k_};
          kernels::cpu::gemm(rows, pointer<Bf16>(input_), rank_, x + k_, x_ext.stride(0), begin, end, 0,
                             kernels::cpu::gemm_panels(rank_));
        }
        product(rows_of(x_ext), forward_, y, begin, end);
      },
      [&] {
        if (fills) update_input(x_ext.narrow(1, 0, k_), x_ext);
        product_on_all(rows_of(x_ext), forward_, y);
      });
}

at::Tensor GemmWeights::update_gradient(const at::Tensor& dy) const {
  const at::Tensor du = at::empty({dy.size(0), rank_}, dy.options());
  product_on_all(rows_of(dy), update_, du);
  return du;
}

at::Tensor GemmWeights::input_gradient(const at::Tensor& dy, const at::Tensor& du) const {
  const at::Tensor dx = at::empty({dy.size(0), k_}, dy.options());
  GemmRows rows = rows_of(dy);
  // The packed matrix ends in A's rows: without an update they meet zeros.
  const at::Tensor tail = du.defined() || rank_ == 0 ? du : at::zeros({dy.size(0), rank_}, dy.options());
  if (rank_ > 0) {
    rows.tail = pointer<Bf16>(tail);
    rows.tail_stride = tail.stride(0);
    rows.tail_k = rank_;
  }
  product_on_all(rows, backward_, dx);
  return dx;
}

}  // namespace slmi::ops
