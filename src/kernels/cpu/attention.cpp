// Attention: reference, choice of level, and the sum of the parts' shares.
#include "slmi/kernels/cpu/attention.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "attention_tiles.h"
#include "levels.h"
#include "scalar.h"

namespace slmi::kernels::cpu {

namespace detail {

namespace {

/// Key number j of what query i of a segment sees: prefix first, then own rows.
template <class KV>
struct VisibleKeys {
  const AttentionSegment& segment;
  const KvView<KV>& prefix;
  const KvView<KV>& own;
  int64_t head_offset;

  int64_t count(int64_t query) const { return segment.prefix_len + segment.own_len - segment.q_len + query + 1; }
  int64_t row(int64_t j) const {
    return j < segment.prefix_len ? segment.prefix_begin + j : segment.own_begin + j - segment.prefix_len;
  }
  const KV* k(int64_t j) const {
    const auto& view = j < segment.prefix_len ? prefix : own;
    return view.k + row(j) * view.row_stride + head_offset;
  }
  const KV* v(int64_t j) const {
    const auto& view = j < segment.prefix_len ? prefix : own;
    return view.v + row(j) * view.row_stride + head_offset;
  }
};

template <class A, class B>
float dot(const A* a, const B* b, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += to_f32(a[i]) * to_f32(b[i]);
  return sum;
}

template <class T, class KV>
void forward_row(const AttentionForward<T, KV>& args, const AttentionShape& shape, const VisibleKeys<KV>& keys,
                 int64_t row, int64_t head, int64_t num_keys) {
  const int64_t e = shape.head_dim;
  const T* q = args.q + row * args.q_stride + head * e;
  float top = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < num_keys; ++j) top = std::fmax(top, shape.scale * dot(q, keys.k(j), e));
  float sum = 0.0f;
  float o[kMaxHeadDim] = {};
  for (int64_t j = 0; j < num_keys; ++j) {
    const float p = std::exp(shape.scale * dot(q, keys.k(j), e) - top);
    sum += p;
    for (int64_t c = 0; c < e; ++c) o[c] += p * to_f32(keys.v(j)[c]);
  }
  for (int64_t c = 0; c < e; ++c) args.out[row * args.out_stride + head * e + c] = from_f32<T>(o[c] / sum);
  if (args.lse != nullptr) args.lse[row * shape.num_heads + head] = top + std::log(sum);
}

}  // namespace

template <>
template <class T, class KV>
void Attention<SimdLevel::Scalar>::forward(const AttentionPlan& plan, const AttentionForward<T, KV>& args, int part,
                                           std::byte* /*scratch*/) {
  const AttentionShape& shape = plan.shape();
  const int64_t e = shape.head_dim, group = shape.num_heads / shape.num_kv_heads;
  for (const auto& item : plan.items(part)) {
    for (int64_t n = 0; n < item.num_segments; ++n) {
      const auto& segment = plan.segments()[static_cast<size_t>(item.segment + n)];
      const VisibleKeys<KV> keys{segment, args.prefix, args.own, item.kv_head * e};
      for (int64_t i = item.query; i < item.query + item.num_queries; ++i) {
        for (int64_t h = item.kv_head * group; h < (item.kv_head + 1) * group; ++h) {
          forward_row(args, shape, keys, segment.q_begin + i, h, keys.count(i));
        }
      }
    }
  }
}

template <>
template <class T>
void Attention<SimdLevel::Scalar>::backward(const AttentionPlan& plan, const AttentionBackward<T>& args, int part,
                                            std::byte* /*scratch*/) {
  const AttentionShape& shape = plan.shape();
  const int64_t e = shape.head_dim, group = shape.num_heads / shape.num_kv_heads;
  const KeyGradient<T> target{plan, args, part};
  for (const auto& item : plan.items(part)) {
    const auto& segment = plan.segments()[static_cast<size_t>(item.segment)];
    const int64_t head_offset = item.kv_head * e;
    const VisibleKeys<T> keys{segment, args.kv, args.kv, head_offset};
    for (int64_t i = item.query; i < item.query + item.num_queries; ++i) {
      for (int64_t h = item.kv_head * group; h < (item.kv_head + 1) * group; ++h) {
        const int64_t row = segment.q_begin + i;
        const T* q = args.q + row * args.q_stride + h * e;
        const T* d_out = args.d_out + row * args.d_out_stride + h * e;
        const float delta = dot(d_out, args.out + row * args.out_stride + h * e, e);
        float dq[kMaxHeadDim] = {};
        for (int64_t j = 0; j < keys.count(i); ++j) {
          const float p = std::exp(shape.scale * dot(q, keys.k(j), e) - args.lse[row * shape.num_heads + h]);
          const float ds = p * (dot(d_out, keys.v(j), e) - delta) * shape.scale;
          float* dk = target.dk(keys.row(j)) + head_offset;
          float* dv = target.dv(keys.row(j)) + head_offset;
          for (int64_t c = 0; c < e; ++c) {
            dq[c] += ds * to_f32(keys.k(j)[c]);
            dk[c] += ds * to_f32(q[c]);
            dv[c] += p * to_f32(d_out[c]);
          }
        }
        for (int64_t c = 0; c < e; ++c) args.dq[row * args.dq_stride + h * e + c] = from_f32<T>(dq[c]);
      }
    }
  }
}

}  // namespace detail

template <class T, class KV>
void attention_forward(const AttentionPlan& plan, const AttentionForward<T, KV>& args, int part, std::byte* scratch,
                       SimdLevel level) {
  detail::at_level(level,
                   [&]<SimdLevel L> { detail::Attention<L>::template forward<T, KV>(plan, args, part, scratch); });
}

template <class T>
void attention_backward(const AttentionPlan& plan, const AttentionBackward<T>& args, int part, std::byte* scratch,
                        SimdLevel level) {
  const detail::KeyGradient<T> target{plan, args, part};
  if (plan.num_shared_rows() > 0) {
    std::memset(target.share(), 0, static_cast<size_t>(plan.num_shared_rows() * 2 * target.width()) * sizeof(float));
  }
  detail::at_level(level, [&]<SimdLevel L> { detail::Attention<L>::template backward<T>(plan, args, part, scratch); });
}

template <class T>
void attention_backward_reduce(const AttentionPlan& plan, const AttentionBackward<T>& args, int part) {
  const int64_t num_rows = plan.num_shared_rows();
  const int64_t width = detail::KeyGradient<T>{plan, args, part}.width();
  const int64_t first = num_rows * part / plan.num_parts(), last = num_rows * (part + 1) / plan.num_parts();
  for (int p = 0; p < plan.num_parts(); ++p) {
    const float* share = detail::KeyGradient<T>{plan, args, p}.share();
    for (int64_t slot = first; slot < last; ++slot) {
      const int64_t row = plan.shared_rows()[static_cast<size_t>(slot)];
      const float* dk = share + slot * 2 * width;
      for (int64_t c = 0; c < width; ++c) args.dk[row * width + c] += dk[c];
      for (int64_t c = 0; c < width; ++c) args.dv[row * width + c] += dk[width + c];
    }
  }
}

#define SLMI_INSTANTIATE(T)                                                                                           \
  template void attention_forward<T, float>(const AttentionPlan&, const AttentionForward<T, float>&, int, std::byte*, \
                                            SimdLevel);                                                               \
  template void attention_forward<T, Bf16>(const AttentionPlan&, const AttentionForward<T, Bf16>&, int, std::byte*,   \
                                           SimdLevel);                                                                \
  template void attention_backward<T>(const AttentionPlan&, const AttentionBackward<T>&, int, std::byte*, SimdLevel); \
  template void attention_backward_reduce<T>(const AttentionPlan&, const AttentionBackward<T>&, int);
SLMI_INSTANTIATE(float)
SLMI_INSTANTIATE(Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu
