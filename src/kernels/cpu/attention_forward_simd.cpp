// Attention forward in vectors: tiles of scores, softmaxed as they come, against packed keys and values.
#include "attention_simd.h"

namespace slmi::kernels::cpu::detail {

namespace {

/// Turns scores of `visible` keys into exp(score - top) in place (0 behind, to a whole vector), keeping the running
/// maximum and sum. Returns the factor by which earlier sums must shrink.
inline float soften(float* scores, int64_t visible, int64_t vectors, float& top, float& total) {
  F block_top = all(-kInfinity);
  for (int64_t v = 0; v < vectors; ++v) {
    block_top = max(block_top, first_of(visible - v * kLanes, load(scores + v * kLanes), all(-kInfinity)));
  }
  const float new_top = greatest(max(all(top), block_top));
  const float shrink = new_top == top ? 1.0f : sum(first_of(1, exp(all(top - new_top)), zero()));
  F sums = zero();
  for (int64_t v = 0; v < vectors; ++v) {
    const F p = exp(sub(load(scores + v * kLanes), all(new_top)));
    const F kept = first_of(visible - v * kLanes, p, zero());
    sums = add(sums, kept);
    store(scores + v * kLanes, kept);
  }
  total = total * shrink + sum(sums);
  top = new_top;
  return shrink;
}

/// One item. Row r is query r / group, head r % group; of several segments it is the one query of segment r / group.
template <class T, class KV>
struct ForwardItem {
  const AttentionPlan& plan;
  const AttentionForward<T, KV>& args;
  const AttentionPlan::Item& item;
  const AttentionSegment* segments;
  int64_t head_dim, width, group, rows;  // width: padded head_dim
  // Scratch: see the constructor.
  float *q, *o, *top, *total, *k_transposed, *v_packed, *scores;

  ForwardItem(const AttentionPlan& p, const AttentionForward<T, KV>& a, const AttentionPlan::Item& i, float* scratch)
      : plan(p), args(a), item(i), segments(p.segments().data() + i.segment) {
    head_dim = plan.shape().head_dim;
    width = padded_head_dim(head_dim);
    group = plan.shape().num_heads / plan.shape().num_kv_heads;
    rows = item.num_segments * item.num_queries * group;
    const int64_t most_rows = max_item_rows(plan.shape()) + 16;
    q = scratch;                                  // [rows, width], scaled
    o = q + most_rows * width;                    // [rows, width], not yet divided by total
    k_transposed = o + most_rows * width;         // [head_dim, kKeyBlock]
    v_packed = k_transposed + kKeyBlock * width;  // [keys, width]
    scores = v_packed + kKeyBlock * width;        // [kTileRows, kKeyBlock]
    top = scores + kTileRows * kKeyBlock;         // [rows]
    total = top + most_rows;                      // [rows]
  }

  int64_t query(int64_t row) const { return item.num_segments > 1 ? 0 : item.query + row / group; }
  int64_t head(int64_t row) const { return item.kv_head * group + row % group; }
  int64_t q_row(int64_t row) const {
    return item.num_segments > 1 ? segments[row / group].q_begin : segments->q_begin + query(row);
  }

  void run() {
    start();
    const int64_t head_offset = item.kv_head * head_dim;
    for_prefix_blocks(*segments, args.prefix, head_offset, [&](const KeyBlock<KV>& block) {
      if (item.packed) {
        add_block(block);
      } else {
        add_block_in_place(*segments, block, 0, rows);
      }
    });
    for (int64_t n = 0; n < item.num_segments; ++n) {
      const int64_t last = item.query + item.num_queries - 1;
      const int64_t first_row = n * group;
      for_own_blocks(segments[n], last, args.own, head_offset, [&](const KeyBlock<KV>& block) {
        if (item.packed && item.num_segments == 1 && segments->q_len > 1) {
          add_block(block);
        } else {
          add_block_in_place(segments[n], block, first_row, item.num_segments > 1 ? first_row + group : rows);
        }
      });
    }
    finish();
  }

  void start() {
    const F scale = all(plan.shape().scale);
    for (int64_t r = 0; r < rows; ++r) {
      pack_row(args.q + q_row(r) * args.q_stride + head(r) * head_dim, scale, head_dim, q + r * width);
      for (int64_t c = 0; c < width; c += kLanes) store(o + r * width + c, zero());
      top[r] = -kInfinity;
      total[r] = 0.0f;
    }
  }

  void finish() {
    for (int64_t r = 0; r < rows; ++r) {
      const F factor = all(1.0f / total[r]);
      T* out = args.out + q_row(r) * args.out_stride + head(r) * head_dim;
      for_vectors(head_dim,
                  [&](int64_t c, auto lanes) { store(out + c, mul(load(o + r * width + c), factor), lanes); });
      if (args.lse != nullptr) {
        args.lse[q_row(r) * plan.shape().num_heads + head(r)] = top[r] + __builtin_logf(total[r]);
      }
    }
  }

  void shrink_row(int64_t row, float factor) {
    if (factor == 1.0f) return;
    for (int64_t c = 0; c < width; c += kLanes) {
      store(o + row * width + c, mul(load(o + row * width + c), all(factor)));
    }
  }

  /// Many rows: pack the keys once, then tiles of rows.
  void add_block(const KeyBlock<KV>& block) {
    pack_transposed(block.k, block.stride, block.count, head_dim, k_transposed);
    pack_rows(block.v, block.stride, block.count, head_dim, v_packed);
    for (int64_t r0 = 0; r0 < rows; r0 += kTileRows) {
      const int64_t n = smaller(kTileRows, rows - r0);
      const int64_t seen = block.visible(*segments, query(r0 + n - 1));  // the last row sees the most
      if (seen <= 0) continue;
      const int64_t vectors = (seen + kLanes - 1) / kLanes;
      product(n, Left{q + r0 * width, width, 1}, head_dim, k_transposed, kKeyBlock, vectors, scores, kKeyBlock,
              Into::Write);
      for (int64_t r = 0; r < n; ++r) {
        const int64_t visible = block.visible(*segments, query(r0 + r));
        float* row = scores + r * kKeyBlock;
        if (visible <= 0) {
          for (int64_t v = 0; v < vectors; ++v) store(row + v * kLanes, zero());
          continue;
        }
        shrink_row(r0 + r, soften(row, visible, vectors, top[r0 + r], total[r0 + r]));
      }
      product(n, Left{scores, kKeyBlock, 1}, seen, v_packed, width, width / kLanes, o + r0 * width, width, Into::Add);
    }
  }

  /// Rows [begin, end) of one segment, few: the keys where they lie, for up to four heads of a query at a time.
  void add_block_in_place(const AttentionSegment& segment, const KeyBlock<KV>& block, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end;) {
      const int64_t left_of_query = group - r % group;
      const int64_t visible = block.visible(segment, query(r));
      const int64_t n = smaller(4, left_of_query);
      if (visible > 0) {
        if (n == 1) rows_in_place<1>(block, visible, r);
        if (n == 2) rows_in_place<2>(block, visible, r);
        if (n == 3) rows_in_place<3>(block, visible, r);
        if (n == 4) rows_in_place<4>(block, visible, r);
      }
      r += n;
    }
  }

  template <int R>
  void rows_in_place(const KeyBlock<KV>& block, int64_t visible, int64_t row) {
    const int64_t vectors = (visible + kLanes - 1) / kLanes;
    for (int64_t j = 0; j < visible; j += kLanes) {
      F dots[R][kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        // Behind the last key the last one again: soften drops what comes of it.
        const KV* key = block.k + smaller(j + i, visible - 1) * block.stride;
        F sums[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[r] = zero();
        for_vectors(
            head_dim, [&](int64_t c, auto lanes) __attribute__((always_inline)) {
              const F k = load(key + c, lanes);
#pragma GCC unroll 4
              for (int r = 0; r < R; ++r) sums[r] = fma(load(q + (row + r) * width + c), k, sums[r]);
            });
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) dots[r][i] = sums[r];
      }
      for (int r = 0; r < R; ++r) store(scores + r * kKeyBlock + j, sums_of(dots[r]));
    }
    for (int64_t r = row; r < row + R; ++r) {
      shrink_row(r, soften(scores + (r - row) * kKeyBlock, visible, vectors, top[r], total[r]));
    }
    add_values<R>(block, visible, row);
  }

  /// o[row + r] += scores[r] * values, a panel of columns at a time.
  template <int R>
  void add_values(const KeyBlock<KV>& block, int64_t visible, int64_t row) {
    int64_t c = 0;
    for (; c + kTileVectors * kLanes <= head_dim; c += kTileVectors * kLanes) {
      add_value_panel<R, kTileVectors>(block, visible, row, c, All{});
    }
    for_vectors(head_dim - c, [&](int64_t d, auto lanes) { add_value_panel<R, 1>(block, visible, row, c + d, lanes); });
  }

  template <int R, int V, class Lanes>
  void add_value_panel(const KeyBlock<KV>& block, int64_t visible, int64_t row, int64_t column, Lanes lanes) {
    float* to = o + row * width + column;
    F sums[R][V];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = load(to + r * width + v * kLanes);
    }
    const KV* value = block.v + column;
    for (int64_t j = 0; j < visible; ++j, value += block.stride) {
      F right[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) right[v] = load(value + v * kLanes, lanes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const F p = all(scores[r * kKeyBlock + j]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = fma(p, right[v], sums[r][v]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(to + r * width + v * kLanes, sums[r][v]);
    }
  }
};

}  // namespace

template <>
template <class T, class KV>
void Attention<kLevel>::forward(const AttentionPlan& plan, const AttentionForward<T, KV>& args, int part,
                                std::byte* scratch) {
  const auto items = plan.items(part);
  for (size_t i = 0; i < items.size(); ++i) ForwardItem<T, KV>(plan, args, items[i], aligned(scratch)).run();
}

#define SLMI_INSTANTIATE(T, KV)                                                                              \
  template void Attention<kLevel>::forward<T, KV>(const AttentionPlan&, const AttentionForward<T, KV>&, int, \
                                                  std::byte*);
SLMI_INSTANTIATE(float, float)
SLMI_INSTANTIATE(float, Bf16)
SLMI_INSTANTIATE(Bf16, float)
SLMI_INSTANTIATE(Bf16, Bf16)
#undef SLMI_INSTANTIATE

}  // namespace slmi::kernels::cpu::detail
