// Attention of short segments, forward.
#include <cmath>

#include "attention_tiles.cuh"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

template <class T>
struct Forward {
  AttentionInput<T> in;
  int num_heads;
  Group group;
  float scale;
  AttentionSegments segments;
  T* out;
  int64_t out_stride;
  float* lse;
};

template <class T, int kE>
__global__ void __launch_bounds__(kAttentionThreads) forward(Forward<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  const QueryBlock own(a.segments, a.group);
  if (own.row0 >= own.rows) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const uint32_t base = shared_address(memory);
  constexpr int kBytes = kAttentionTile * kE * 2;
  const Tile<T, kE> q{base}, k{base + kBytes}, v{base + 2 * kBytes};
  const auto head_of = [&](int row) { return own.head(a.group, row); };
  q.fetch(kAttentionTile, a.in.q, [&](int r) -> const T* {
    const int row = own.row0 + r;
    if (row >= own.rows) return nullptr;
    return a.in.q + (own.segment.begin + a.group.token(row)) * a.in.q_stride + head_of(row) * kE;
  });
  const KeyBlocks blocks = own.keys(a.group);
  float sums[kE / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
  const float scale = a.scale * kLog2E;
  const int first = own.row0 + warp * 16 + lane / 4;  // this lane's rows: first and eight below
  for (int i = 0; i < blocks.count(); ++i) {
    const auto block = blocks.block(i);
    __syncthreads();  // all have read the tiles before
    fetch_keys(k, v, a.in, block, own.kv_head);
    wait_copies<0>();
    __syncthreads();
    float s[kAttentionTile / 8][4] = {};
    scores<T, kE, kAttentionTile / 8>(s, q, warp * 16, k, 0, lane);
    float weights_sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int seen = a.group.token(first + 8 * half) - block.position;  // keys up to here
      float most = top[half];
#pragma unroll
      for (int n = 0; n < kAttentionTile / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int key = n * 8 + lane % 4 * 2 + j;
          float& x = s[n][2 * half + j];
          x = key < block.keys && key <= seen ? x * scale : -INFINITY;
          most = fmaxf(most, x);
        }
      }
      most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
      const float shift = most == -INFINITY ? 0.0f : most;
      const float shrink = exp2f(top[half] - shift);
      top[half] = most;
#pragma unroll
      for (int n = 0; n < kAttentionTile / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& x = s[n][2 * half + j];
          x = exp2f(x - shift);
          weights_sum[half] += x;
        }
      }
      total[half] = total[half] * shrink + weights_sum[half];
#pragma unroll
      for (int n = 0; n < kE / 8; ++n) {
        sums[n][2 * half] *= shrink;
        sums[n][2 * half + 1] *= shrink;
      }
    }
    weighted<T, kE, kAttentionTile / 8>(sums, s, v, 0, lane);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float all = total[half];
    all += __shfl_xor_sync(0xffffffff, all, 1);
    all += __shfl_xor_sync(0xffffffff, all, 2);
    const int row = first + 8 * half;
    if (row >= own.rows) continue;
    const int64_t token = own.segment.begin + a.group.token(row);
    const float inverse = 1.0f / all;
    T* out = a.out + token * a.out_stride + head_of(row) * kE;
#pragma unroll
    for (int n = 0; n < kE / 8; ++n)
      *reinterpret_cast<uint32_t*>(out + n * 8 + lane % 4 * 2) =
          pack_two<T>(sums[n][2 * half] * inverse, sums[n][2 * half + 1] * inverse);
    if (lane % 4 == 0) a.lse[token * a.num_heads + head_of(row)] = top[half] / kLog2E + logf(all);
  }
}

}  // namespace

template <class T>
bool attention_fits(int compute_capability, const AttentionShape& shape, const T* q, int64_t q_stride, const T* k,
                    const T* v, int64_t kv_stride) {
  return compute_capability >= 80 && (shape.head_dim == 64 || shape.head_dim == 128) &&
         shape.num_heads % shape.num_kv_heads == 0 && packs<T, 8>(q, q_stride, 0) && packs<T, 8>(k, kv_stride, 0) &&
         packs<T, 8>(v, kv_stride, 0);
}

template <class T>
void attention_forward(const AttentionInput<T>& in, const AttentionShape& shape, const AttentionSegments& segments,
                       T* out, int64_t out_stride, float* lse, Stream stream) {
  if (segments.count == 0 || segments.longest == 0) return;
  const Group group(shape.num_heads / shape.num_kv_heads);
  const Forward<T> a = {in, shape.num_heads, group, shape.scale, segments, out, out_stride, lse};
  at_width(shape.head_dim, [&]<int kE>() {
    constexpr int kBytes = 3 * kAttentionTile * kE * 2;
    allow_memory(kAttentionMemory, forward<T, kE>, kBytes);
    forward<T, kE><<<grid_of(ceil_div(static_cast<int64_t>(segments.longest) * group.size, kAttentionTile),
                             segments.count, shape.num_kv_heads),
                     kAttentionThreads, kBytes, stream>>>(a);
  });
  check_launch("attention_forward");
}

#define SLMI_FOR(T)                                                                                              \
  template bool attention_fits(int, const AttentionShape&, const T*, int64_t, const T*, const T*, int64_t);      \
  template void attention_forward(const AttentionInput<T>&, const AttentionShape&, const AttentionSegments&, T*, \
                                  int64_t, float*, Stream);
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
