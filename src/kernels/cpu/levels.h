// The kernels by SIMD level: declared here once, defined by *.cpp (Scalar) and *_simd.cpp (Avx2, Avx512: compiled
// twice).
#pragma once

#include <cstddef>

#include "slmi/kernels/cpu/adamw.h"
#include "slmi/kernels/cpu/attention.h"
#include "slmi/kernels/cpu/block_round.h"
#include "slmi/kernels/cpu/block_search.h"
#include "slmi/kernels/cpu/cross_entropy.h"
#include "slmi/kernels/cpu/dropout.h"
#include "slmi/kernels/cpu/group_search.h"
#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/swiglu.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu::detail {

/// Calls f.operator()<level>().
template <class F>
decltype(auto) at_level(SimdLevel level, F&& f) {
  switch (level) {
    case SimdLevel::Avx512:
      return f.template operator()<SimdLevel::Avx512>();
    case SimdLevel::Avx2:
      return f.template operator()<SimdLevel::Avx2>();
    case SimdLevel::Scalar:
      break;
  }
  return f.template operator()<SimdLevel::Scalar>();
}

// Members mirror the public functions; see those for what they do.

template <SimdLevel>
struct RmsNorm {
  template <class T>
  static void forward(const float* x, const float* weight, float eps, int64_t width, T* out, int64_t out_stride,
                      float* rstd, int64_t begin, int64_t end);
  template <class T>
  static void backward(const T* dy, int64_t dy_stride, const float* x, const float* weight, const float* rstd,
                       int64_t width, float* dx, int64_t begin, int64_t end);
  template <class T>
  static void add(const float* hidden_in, const T* y, int64_t y_stride, int64_t width, float* hidden_out, int64_t begin,
                  int64_t end);
  template <class T>
  static void add_forward(const float* hidden_in, const T* y, int64_t y_stride, const float* weight, float eps,
                          int64_t width, float* hidden_out, T* out, int64_t out_stride, float* rstd, int64_t begin,
                          int64_t end);
};

template <SimdLevel>
struct Rope {
  /// sin_sign: +1 forward, -1 inverse.
  template <class T>
  static void apply(T* x, int64_t x_stride, int64_t num_heads, int64_t head_dim, const float* cos, const float* sin,
                    const int32_t* positions, float sin_sign, int64_t begin, int64_t end);
};

template <SimdLevel>
struct Swiglu {
  template <class T>
  static void forward(const T* gate_up, int64_t gate_up_stride, int64_t ffn_width, T* out, int64_t out_stride,
                      int64_t begin, int64_t end);
  template <class T>
  static void backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride,
                       int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, T* activation,
                       int64_t activation_stride, int64_t begin, int64_t end);
};

template <SimdLevel>
struct CrossEntropy {
  /// Log-sum-exp of one row.
  template <class T>
  static float lse(const T* logits, int64_t vocabulary);
  /// logits = (exp(logits - lse) - onehot) * scale.
  template <class T>
  static void gradient(T* logits, int64_t vocabulary, int32_t target, float lse, float scale);
  /// The first id of the greatest allowed logit, or -1.
  template <class T>
  static int32_t argmax(const T* logits, int64_t vocabulary, const uint64_t* allowed);
};

/// AdamWStep rounded to f32.
struct AdamWFactors {
  float gradient_scale, decay, one_minus_beta1, beta2, one_minus_beta2, root_bias_correction2, eps, minus_step_size;
  GradientAfter gradient_after;
};

template <SimdLevel>
struct AdamW {
  static void step(float* param, float* grad, float* m, float* v, const AdamWFactors& f, int64_t begin, int64_t end);
  /// Sum of squares of up to kSumBlock values.
  static double sum_of_squares(const float* x, int64_t n);
};

template <SimdLevel>
struct Elementwise {
  template <class S, class D>
  static void convert(const S* src, int64_t src_stride, D* dst, int64_t dst_stride, int64_t width, int64_t begin,
                      int64_t end);
  template <class S, class D>
  static void scale(const S* src, int64_t src_stride, float scale, D* dst, int64_t dst_stride, int64_t width,
                    int64_t begin, int64_t end);
  template <class S>
  static void add_scaled(const S* src, int64_t src_stride, float scale, float* dst, int64_t dst_stride, int64_t width,
                         int64_t begin, int64_t end);
};

/// A DropoutKey mixed to what the rows need.
struct DropoutNumbers {
  uint32_t key0, key1;
  uint32_t threshold;
  float scale;
};

template <SimdLevel>
struct Dropout {
  template <class T>
  static void apply(const T* x, int64_t x_stride, const DropoutNumbers& numbers, const uint64_t* row_keys,
                    const int32_t* positions, int64_t width, T* out, int64_t out_stride, int64_t begin, int64_t end);
};

template <SimdLevel>
struct Gemv {
  template <class X, class W, class Y>
  static void run(const X* x, int64_t x_stride, int64_t num_rows, const W* w, int64_t w_stride, int64_t k, Y* y,
                  int64_t y_stride, int64_t begin, int64_t end);
};

template <SimdLevel>
struct BlockSearch {
  static void affine(const SubBlocks& in, const AffineGrid& grid, AffineFit& out);
  static void symmetric(const SubBlocks& in, int levels, SymmetricFit& out);
  static void descent(const SubBlocks& in, int levels, SymmetricFit& out, int8_t* codes);
  static void round(const float* x, int64_t count, int64_t size, const float* step, const float* offset,
                    CodeRange range, uint8_t* codes);
};

template <SimdLevel>
struct GroupSearch {
  static void run(const RowGroups& in, int levels, float* scale, float* scratch);
};

template <SimdLevel>
struct BlockRound {
  static void symmetric(const float* x, int64_t count, int levels, float* scale, uint8_t* codes);
  static void affine(const float* x, int64_t count, int max_code, float* scale, float* base, uint8_t* codes);
};

/// For the tests of vec.h only; no Scalar version.
template <SimdLevel>
struct Math {
  static void exp(const float* x, float* y, int64_t n);
};

template <SimdLevel>
struct Attention {
  template <class T, class KV>
  static void forward(const AttentionPlan& plan, const AttentionForward<T, KV>& args, int part, std::byte* scratch);
  template <class T>
  static void backward(const AttentionPlan& plan, const AttentionBackward<T>& args, int part, std::byte* scratch);
};

}  // namespace slmi::kernels::cpu::detail
