// Matrices that share an input (q/k/v, gate/up, or one alone), with their LoRA updates, as one product forward and one
// back.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "slmi/ops/dropout.h"
#include "slmi/ops/gemm_weights.h"
#include "slmi/ops/packed_matrix.h"
#include "slmi/ops/tensor.h"

namespace slmi::ops {

struct ThinAdapter;

/// Adapter of one matrix: views into the trainer's flat buffers. y += scale * (x A^T) B^T.
/// Source: Hu et al. 2021, arXiv:2106.09685.
struct LoraPair {
  at::Tensor a, b;            // f32 [R, K], [N, R]
  at::Tensor grad_a, grad_b;  // f32, accumulated into; undefined when not training
  double scale = 1.0;
};

/// Whether the weights of a group are kept in the compute type between uses, or made anew from the packed form each
/// time.
enum class Residency { Resident, Transient };

/// One product over [x | u] with the weight [W | s*B]: with u = x A^T written beside x, base and update come out of one
/// matrix product, and the backward product returns the gradient of x and that of u side by side. W's rows are the
/// group's matrices stacked, s*B is block-diagonal.
class LinearGroup {
 public:
  LinearGroup() = default;
  /// Not ready for products until attach() or detach(), which make the resident weights.
  LinearGroup(std::vector<PackedMatrix> matrices, std::vector<LinearSite> sites, Compute compute, Residency residency);

  /// Width of the input buffer: K, plus the sum of the adapters' ranks. Rows of x must be this wide; the caller fills
  /// [0, K).
  int64_t input_width() const { return k_ + total_rank_; }
  /// Width of a buffer for the gradient of the output: N, and where the adapters' own kernels run, as many columns more
  /// as there are in u: they take its gradient.
  int64_t gradient_width() const { return n_ + (thin_.rank > 0 ? total_rank_ : 0); }
  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  uint64_t packed_bytes() const;
  const std::vector<PackedMatrix>& matrices() const { return matrices_; }
  const std::vector<LinearSite>& sites() const { return sites_; }

  /// One entry a matrix; an undefined `a` means no adapter there.
  void attach(std::vector<LoraPair> adapters);
  void detach();
  /// Takes over changed adapter values. Must be called after every optimizer step, before the next forward.
  void refresh_adapters();
  /// The same for all groups of a model, together: on a GPU launch by launch takes longer than the values do.
  static void refresh_adapters(const std::vector<LinearGroup*>& groups);

  /// Writes x A^T beside x, into the last columns of x_ext [T, input_width]; forward does it by itself.
  void fill_update_input(const at::Tensor& x_ext, const DropoutContext* dropout) const;
  /// y = base(x) + updates. x_ext [T, input_width] in the compute type; its last columns are written. y [T, N].
  void forward(const at::Tensor& x_ext, const at::Tensor& y, const DropoutContext* dropout) const;

  /// As long as it lives the weights of a Transient group stay unpacked: for several products with few rows each.
  class Unpacked {
   public:
    explicit Unpacked(const LinearGroup& group);
    ~Unpacked() { group_.unpacked_.reset(); }
    Unpacked(const Unpacked&) = delete;
    Unpacked& operator=(const Unpacked&) = delete;

   private:
    const LinearGroup& group_;
  };

  enum class InputGradient { Wanted, Unwanted };
  /// Returns the gradient of x [T, K] (undefined if unwanted) and accumulates the adapters' gradients. x_ext as forward
  /// left it; dy_ext [T, gradient_width], of which the caller fills [0, N) and the rest is written.
  at::Tensor backward(const at::Tensor& dy_ext, const at::Tensor& x_ext, const DropoutContext* dropout,
                      InputGradient wanted) const;

  /// What the gradients of A are made of: += du^T x.
  struct AGradients {
    at::Tensor du;                    // [T, total rank]; undefined: x itself is wanted
    std::vector<at::Tensor> targets;  // f32 [R, K] of each adapter
  };
  /// Makes x [T, K] again, given its gradient, which is not read after that: x may be written in its place. Or, where
  /// du is there, adds to the gradients of A itself and returns nothing.
  using RemakeInput = std::function<at::Tensor(const at::Tensor& dx, const AGradients& gradients)>;
  /// Whether `remake` is given du where there is no dropout.
  bool gives_a_gradients() const { return thin_.rank > 0; }
  /// The same for an x that was not kept, or apart from u = x A^T [T, total rank]: `remake` is called once, when dx is
  /// known.
  void backward_remaking(const at::Tensor& dy_ext, const at::Tensor& u, const DropoutContext* dropout,
                         const RemakeInput& remake) const;

 private:
  void dequantize_into(const at::Tensor& out) const;
  at::Tensor base_weight() const;
  at::Tensor weight() const;
  /// body(s*B of an adapter [n, rank], its first row, its first column): the blocks of the group's update.
  template <class Body>
  void each_update(const Body& body) const;
  void refresh_packed();
  /// What the backward pass needs of the forward pass.
  struct Kept {
    at::Tensor u;
    at::Tensor x;  // undefined: to be made again
    const RemakeInput* remake = nullptr;
    at::Tensor input(const at::Tensor& dx, const AGradients& gradients) const {
      return x.defined() ? x : (*remake)(dx, gradients);
    }
  };
  at::Tensor run_backward(const at::Tensor& dy_ext, const Kept& kept, const DropoutContext* dropout,
                          InputGradient wanted) const;
  at::Tensor packed_backward(const at::Tensor& dy, const DropoutContext* dropout, InputGradient wanted,
                             at::Tensor& du) const;
  void accumulate(const at::Tensor& dy, const at::Tensor& du, const at::Tensor& u, const at::Tensor& x,
                  const DropoutContext* dropout) const;
  void write_update_columns(const at::Tensor& weight) const;
  bool takes_thin_products() const;
  /// The adapters, and where they go that their own kernels read; makes the places first.
  std::vector<ThinAdapter> thin_adapters();
  at::Tensor input_gradient_weight() const;
  bool thin_backward(const at::Tensor& dy_ext, const Kept& kept, const DropoutContext* dropout, InputGradient wanted,
                     at::Tensor& dx) const;
  at::Tensor dropped(const at::Tensor& x, const DropoutContext& dropout) const;

  std::vector<PackedMatrix> matrices_;
  std::vector<LinearSite> sites_;
  Compute compute_ = Compute::F32;
  Residency residency_ = Residency::Transient;
  int64_t k_ = 0, n_ = 0, total_rank_ = 0;
  std::vector<LoraPair> adapters_;
  at::Tensor a_;         // [total rank, K], compute type: the adapters' A stacked
  at::Tensor resident_;  // [N, K + total rank]; with thin_, A is below it: [N + total rank, K + total rank]
  /// On a GPU, where every matrix has an adapter of one rank and one scale: s*B as the last columns of the weight take
  /// it, [N, total rank], and as the gradient of u takes it, transposed and side by side, [rank, N].
  struct Thin {
    at::Tensor columns, transposed;
    int64_t rank = 0;  // 0: not so
    double scale = 1.0;
  };
  Thin thin_;
  mutable at::Tensor unpacked_;  // as resident_, while an Unpacked lives
  // In place of resident_ where the machine has fast packed products; a backward form that
  // training did not ask for is made at its first use.
  mutable GemmWeights gemm_;
};

}  // namespace slmi::ops
