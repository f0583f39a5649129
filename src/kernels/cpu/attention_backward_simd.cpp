// Attention backward in vectors: scores made again from lse, then the five products, a key block and some rows at a
// time.
#include "attention_simd.h"

namespace slmi::kernels::cpu::detail {

namespace {

static_assert(kScoreRows % kTileRows == 0);

/// One item: queries x the heads of one kv head, row r = (query r / group, head r % group).
template <class T>
struct BackwardItem {
  const AttentionPlan& plan;
  const AttentionBackward<T>& args;
  const AttentionPlan::Item& item;
  const AttentionSegment& segment;
  int part;
  int64_t head_dim, width, group, rows;  // width: padded head_dim
  // Scratch: see the constructor.
  float *q, *d_out, *dq, *lse, *delta, *k_transposed, *v_transposed, *k_packed, *dk, *dv, *p, *ds;

  BackwardItem(const AttentionPlan& pl, const AttentionBackward<T>& a, const AttentionPlan::Item& i, int pt,
               float* scratch)
      : plan(pl), args(a), item(i), segment(pl.segments()[static_cast<size_t>(i.segment)]), part(pt) {
    head_dim = plan.shape().head_dim;
    width = padded_head_dim(head_dim);
    group = plan.shape().num_heads / plan.shape().num_kv_heads;
    rows = item.num_queries * group;
    const int64_t most_rows = max_item_rows(plan.shape()) + 16;
    q = scratch;                                      // [rows, width]
    d_out = q + most_rows * width;                    // [rows, width]
    dq = d_out + most_rows * width;                   // [rows, width]
    k_transposed = dq + most_rows * width;            // [head_dim, kKeyBlock]
    v_transposed = k_transposed + kKeyBlock * width;  // [head_dim, kKeyBlock]
    k_packed = v_transposed + kKeyBlock * width;      // [keys, width]
    dk = k_packed + kKeyBlock * width;                // [keys, width]
    dv = dk + kKeyBlock * width;                      // [keys, width]
    p = dv + kKeyBlock * width;                       // [kScoreRows, kKeyBlock]
    ds = p + kScoreRows * kKeyBlock;                  // [kScoreRows, kKeyBlock]
    lse = ds + kScoreRows * kKeyBlock;                // [rows]
    delta = lse + most_rows;                          // [rows]
  }

  int64_t query(int64_t row) const { return item.query + row / group; }
  int64_t head(int64_t row) const { return item.kv_head * group + row % group; }
  int64_t q_row(int64_t row) const { return segment.q_begin + query(row); }

  void start() {
    const F one = all(1.0f);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t column = head(r) * head_dim;
      const T* d_out_row = args.d_out + q_row(r) * args.d_out_stride + column;
      const T* out_row = args.out + q_row(r) * args.out_stride + column;
      pack_row(args.q + q_row(r) * args.q_stride + column, one, head_dim, q + r * width);
      pack_row(d_out_row, one, head_dim, d_out + r * width);
      F sums = zero();
      for_vectors(head_dim, [&](int64_t c, auto lanes) {
        sums = fma(load(d_out + r * width + c), load(out_row + c, lanes), sums);
      });
      delta[r] = sum(sums);
      lse[r] = args.lse[q_row(r) * plan.shape().num_heads + head(r)];
      for (int64_t c = 0; c < width; c += kLanes) store(dq + r * width + c, zero());
    }
  }

  void finish() {
    for (int64_t r = 0; r < rows; ++r) {
      T* to = args.dq + q_row(r) * args.dq_stride + head(r) * head_dim;
      for_vectors(head_dim, [&](int64_t c, auto lanes) { store(to + c, load(dq + r * width + c), lanes); });
    }
  }

  /// First row that sees key number j of the block; rows see more and more.
  int64_t first_row_seeing(const KeyBlock<T>& block, int64_t j) const {
    if (block.first < 0) return 0;
    const int64_t query_needed = block.first + j - (segment.own_len - segment.q_len);
    const int64_t in_item = query_needed - item.query;
    return in_item <= 0 ? 0 : smaller(in_item * group, rows);
  }

  void add_block(const KeyBlock<T>& block) {
    const int64_t first_row = first_row_seeing(block, 0);
    if (first_row >= rows) return;
    pack_transposed(block.k, block.stride, block.count, head_dim, k_transposed);
    pack_transposed(block.v, block.stride, block.count, head_dim, v_transposed);
    pack_rows(block.k, block.stride, block.count, head_dim, k_packed);
    for (int64_t i = 0; i < block.count * width; i += kLanes) {
      store(dk + i, zero());
      store(dv + i, zero());
    }
    for (int64_t r0 = first_row; r0 < rows; r0 += kScoreRows) add_rows(block, r0, smaller(kScoreRows, rows - r0));
    const KeyGradient<T> target{plan, args, part};
    for (int64_t j = 0; j < block.count; ++j) {
      add_to(target.dk(block.row + j) + item.kv_head * head_dim, dk + j * width);
      add_to(target.dv(block.row + j) + item.kv_head * head_dim, dv + j * width);
    }
  }

  void add_to(float* to, const float* from) const {
    for_vectors(head_dim,
                [&](int64_t c, auto lanes) { store(to + c, add(load(to + c, lanes), load(from + c)), lanes); });
  }

  /// Rows [r0, r0 + n): P and dS, then what they add to dQ, dV and dK.
  void add_rows(const KeyBlock<T>& block, int64_t r0, int64_t n) {
    for (int64_t i = 0; i < n; i += kTileRows) {
      const int64_t tile_rows = smaller(kTileRows, n - i);
      const int64_t seen = block.visible(segment, query(r0 + i + tile_rows - 1));
      const int64_t vectors = (seen + kLanes - 1) / kLanes;
      float* p_tile = p + i * kKeyBlock;
      float* ds_tile = ds + i * kKeyBlock;
      product(tile_rows, Left{q + (r0 + i) * width, width, 1}, head_dim, k_transposed, kKeyBlock, vectors, p_tile,
              kKeyBlock, Into::Write);
      product(tile_rows, Left{d_out + (r0 + i) * width, width, 1}, head_dim, v_transposed, kKeyBlock, vectors, ds_tile,
              kKeyBlock, Into::Write);
      for (int64_t r = 0; r < tile_rows; ++r)
        score_row(block, r0 + i + r, p_tile + r * kKeyBlock, ds_tile + r * kKeyBlock);
      product(tile_rows, Left{ds_tile, kKeyBlock, 1}, seen, k_packed, width, width / kLanes, dq + (r0 + i) * width,
              width, Into::Add);
    }
    for (int64_t j = 0; j < block.count; j += kTileRows) {
      const int64_t keys = smaller(kTileRows, block.count - j);
      const int64_t skip = first_row_seeing(block, j) - r0;  // rows before see none of these keys
      const int64_t from = skip < 0 ? 0 : skip;
      if (from >= n) break;
      const int64_t left = from * kKeyBlock + j;
      product(keys, Left{p + left, 1, kKeyBlock}, n - from, d_out + (r0 + from) * width, width, width / kLanes,
              dv + j * width, width, Into::Add);
      product(keys, Left{ds + left, 1, kKeyBlock}, n - from, q + (r0 + from) * width, width, width / kLanes,
              dk + j * width, width, Into::Add);
    }
  }

  /// p: q k^T -> P;  ds: dO v^T -> dS, both 0 where the row sees no key, over the whole block.
  void score_row(const KeyBlock<T>& block, int64_t row, float* p_row, float* ds_row) const {
    const int64_t visible = block.visible(segment, query(row));
    const F scale = all(plan.shape().scale), shift = all(lse[row]), mean = all(delta[row]);
    for (int64_t j = 0; j < block.count; j += kLanes) {
      if (j >= visible) {
        store(p_row + j, zero());
        store(ds_row + j, zero());
        continue;
      }
      const F e = exp(sub(mul(load(p_row + j), scale), shift));
      const F kept = first_of(visible - j, e, zero());
      store(p_row + j, kept);
      store(ds_row + j, mul(mul(kept, sub(load(ds_row + j), mean)), scale));
    }
  }
};

}  // namespace

template <>
template <class T>
void Attention<kLevel>::backward(const AttentionPlan& plan, const AttentionBackward<T>& args, int part,
                                 std::byte* scratch) {
  const auto items = plan.items(part);
  for (size_t i = 0; i < items.size(); ++i) {
    BackwardItem<T> item(plan, args, items[i], part, aligned(scratch));
    item.start();
    const int64_t head_offset = items[i].kv_head * item.head_dim;
    const auto add = [&](const KeyBlock<T>& block) { item.add_block(block); };
    for_prefix_blocks(item.segment, args.kv, head_offset, add);
    for_own_blocks(item.segment, items[i].query + items[i].num_queries - 1, args.kv, head_offset, add);
    item.finish();
  }
}

template void Attention<kLevel>::backward<float>(const AttentionPlan&, const AttentionBackward<float>&, int,
                                                 std::byte*);
template void Attention<kLevel>::backward<Bf16>(const AttentionPlan&, const AttentionBackward<Bf16>&, int, std::byte*);

}  // namespace slmi::kernels::cpu::detail
