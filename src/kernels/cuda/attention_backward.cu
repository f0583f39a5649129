// Gradients of attention over short segments.
#include <algorithm>
#include <cmath>

#include "attention_tiles.cuh"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kQueryStep = 32;    // query rows that a block of keys looks at at once
constexpr int kPartBlocks = 256;  // about as many blocks for the prefixes' gradients
constexpr int kMostChunks = 32;

template <class T>
struct Backward {
  AttentionInput<T> in;
  AttentionGradient<T> gradient;
  int num_heads, num_kv_heads;
  Group group;
  float scale;
  AttentionSegments segments;
  AttentionPrefixes prefixes;
  float* delta;  // [rows, H]: sum of d_out * out
  float* parts;  // [chunks][2][prefix tokens][HK * E]
  int chunks;
};

/// dq, and delta for the other kernels. A block as in the forward pass.
template <class T, int kE>
__global__ void __launch_bounds__(kAttentionThreads) query_gradient(Backward<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  const QueryBlock own(a.segments, a.group);
  if (own.row0 >= own.rows) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const uint32_t base = shared_address(memory);
  constexpr int kBytes = kAttentionTile * kE * 2;
  const Tile<T, kE> q{base}, d_out{base + kBytes}, k{base + 2 * kBytes}, v{base + 3 * kBytes};
  const auto head_of = [&](int row) { return own.head(a.group, row); };
  const auto token_of = [&](int row) { return own.segment.begin + static_cast<int64_t>(a.group.token(row)); };
  q.fetch(kAttentionTile, a.in.q, [&](int r) -> const T* {
    const int row = own.row0 + r;
    return row < own.rows ? a.in.q + token_of(row) * a.in.q_stride + head_of(row) * kE : nullptr;
  });
  d_out.fetch(kAttentionTile, a.in.q, [&](int r) -> const T* {
    const int row = own.row0 + r;
    return row < own.rows ? a.gradient.d_out + token_of(row) * a.gradient.d_out_stride + head_of(row) * kE : nullptr;
  });
  commit_copies();
  const int first = own.row0 + warp * 16 + lane / 4;
  float delta[2] = {0.0f, 0.0f}, lse[2] = {0.0f, 0.0f};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + 8 * half;
    if (row < own.rows) {
      const T* o = a.gradient.out + token_of(row) * a.gradient.out_stride + head_of(row) * kE;
      const T* d = a.gradient.d_out + token_of(row) * a.gradient.d_out_stride + head_of(row) * kE;
#pragma unroll
      for (int c = 0; c < kE / 4; c += 8) {  // four lanes share a row: 16 bytes each in turn
        const auto x = load<8>(o + c * 4 + lane % 4 * 8), y = load<8>(d + c * 4 + lane % 4 * 8);
#pragma unroll
        for (int i = 0; i < 8; ++i) delta[half] += to_f32(x.values[i]) * to_f32(y.values[i]);
      }
      lse[half] = a.gradient.lse[token_of(row) * a.num_heads + head_of(row)] * kLog2E;
    }
    delta[half] += __shfl_xor_sync(0xffffffff, delta[half], 1);
    delta[half] += __shfl_xor_sync(0xffffffff, delta[half], 2);
    if (row < own.rows && lane % 4 == 0) a.delta[token_of(row) * a.num_heads + head_of(row)] = delta[half];
  }
  const KeyBlocks blocks = own.keys(a.group);
  const float scale = a.scale * kLog2E;
  float sums[kE / 8][4] = {};
  for (int i = 0; i < blocks.count(); ++i) {
    const auto block = blocks.block(i);
    __syncthreads();
    fetch_keys(k, v, a.in, block, own.kv_head);
    wait_copies<0>();
    __syncthreads();
#pragma unroll
    for (int part = 0; part < kAttentionTile; part += kQueryStep) {  // of the keys: half of the registers
      float s[kQueryStep / 8][4] = {}, d[kQueryStep / 8][4] = {};
      scores<T, kE, kQueryStep / 8>(s, q, warp * 16, k, part, lane);
      scores<T, kE, kQueryStep / 8>(d, d_out, warp * 16, v, part, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int seen = a.group.token(first + 8 * half) - block.position;
#pragma unroll
        for (int n = 0; n < kQueryStep / 8; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int key = part + n * 8 + lane % 4 * 2 + j, at = 2 * half + j;
            const float p = key < block.keys && key <= seen ? exp2f(s[n][at] * scale - lse[half]) : 0.0f;
            s[n][at] = p * (d[n][at] - delta[half]) * a.scale;
          }
        }
      }
      weighted<T, kE, kQueryStep / 8>(sums, s, k, part, lane);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + 8 * half;
    if (row >= own.rows) continue;
    T* out = a.gradient.dq + token_of(row) * a.gradient.dq_stride + head_of(row) * kE;
#pragma unroll
    for (int n = 0; n < kE / 8; ++n)
      *reinterpret_cast<uint32_t*>(out + n * 8 + lane % 4 * 2) = pack_two<T>(sums[n][2 * half], sums[n][2 * half + 1]);
  }
}

/// dk and dv of 64 keys, from the query rows that see them.
template <class T, int kE>
struct KeyGradient {
  float dk[kE / 8][4] = {}, dv[kE / 8][4] = {};

  /// Memory: keys and values; twice 32 rows each of q and d_out, and of those rows lse and delta.
  static constexpr int kKeyBytes = kAttentionTile * kE * 2, kQueryBytes = kQueryStep * kE * 2;
  static constexpr int kStageBytes = 2 * kQueryBytes + 2 * kQueryStep * 4;
  static constexpr int kBytes = 2 * kKeyBytes + 2 * kStageBytes;

  /// token(row) gives a query row's token; rows [begin, end); last_key(row) the last of the tile's keys that it sees.
  template <class Token, class LastKey>
  __device__ void add(const Backward<T>& a, unsigned char* memory, int kv_head, const T* keys, const T* values,
                      int num_keys, int begin, int end, const Token& token, const LastKey& last_key) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
    const uint32_t base = shared_address(memory);
    const Tile<T, kE> k{base}, v{base + kKeyBytes};
    const auto head_of = [&](int row) { return kv_head * a.group.size + a.group.head(row); };
    const auto fetch = [&](int row0, int stage) {
      const uint32_t at = base + 2 * kKeyBytes + static_cast<uint32_t>(stage * kStageBytes);
      const Tile<T, kE> q{at}, d_out{at + kQueryBytes};
      q.fetch(kQueryStep, a.in.q, [&](int r) -> const T* {
        const int row = row0 + r;
        return row < end ? a.in.q + token(row) * a.in.q_stride + head_of(row) * kE : nullptr;
      });
      d_out.fetch(kQueryStep, a.in.q, [&](int r) -> const T* {
        const int row = row0 + r;
        return row < end ? a.gradient.d_out + token(row) * a.gradient.d_out_stride + head_of(row) * kE : nullptr;
      });
      if (threadIdx.x < kQueryStep) {
        const int row = min(row0 + static_cast<int>(threadIdx.x), end - 1);
        const int64_t from = token(row) * a.num_heads + head_of(row);
        const uint32_t to = at + 2 * kQueryBytes + threadIdx.x * 4;
        copy_four_async(to, a.gradient.lse + from);
        copy_four_async(to + kQueryStep * 4, a.delta + from);
      }
      commit_copies();
    };
    if (begin >= end) return;
    k.fetch(kAttentionTile, a.in.q,
            [&](int r) -> const T* { return r < num_keys ? keys + r * a.in.kv_stride : nullptr; });
    v.fetch(kAttentionTile, a.in.q,
            [&](int r) -> const T* { return r < num_keys ? values + r * a.in.kv_stride : nullptr; });
    fetch(begin, 0);
    const float scale = a.scale * kLog2E;
    int stage = 0;
    for (int row0 = begin; row0 < end; row0 += kQueryStep, stage ^= 1) {
      if (row0 + kQueryStep < end) {
        fetch(row0 + kQueryStep, stage ^ 1);
        wait_copies<1>();
      } else {
        wait_copies<0>();
      }
      __syncthreads();
      const int offset = 2 * kKeyBytes + stage * kStageBytes;
      const Tile<T, kE> q{base + static_cast<uint32_t>(offset)},
          d_out{base + static_cast<uint32_t>(offset) + kQueryBytes};
      const auto* lse = reinterpret_cast<const float*>(memory + offset + 2 * kQueryBytes);
      const float* delta = lse + kQueryStep;
      float s[kQueryStep / 8][4] = {}, d[kQueryStep / 8][4] = {};
      scores<T, kE, kQueryStep / 8>(s, k, warp * 16, q, 0, lane);
      scores<T, kE, kQueryStep / 8>(d, v, warp * 16, d_out, 0, lane);
#pragma unroll
      for (int n = 0; n < kQueryStep / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int r = n * 8 + lane % 4 * 2 + j;
          const int last = row0 + r < end ? min(last_key(row0 + r), num_keys - 1) : -1;
          const float shift = lse[r] * kLog2E, less = delta[r];
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int key = warp * 16 + lane / 4 + 8 * half, i = 2 * half + j;
            s[n][i] = key <= last ? exp2f(s[n][i] * scale - shift) : 0.0f;
            d[n][i] = s[n][i] * (d[n][i] - less) * a.scale;
          }
        }
      }
      weighted<T, kE, kQueryStep / 8>(dv, s, d_out, 0, lane);
      weighted<T, kE, kQueryStep / 8>(dk, d, q, 0, lane);
      __syncthreads();  // all have read what is overwritten next
    }
  }

  /// write(key, column, two of dk, two of dv) for this lane's values of keys below num_keys.
  template <class Write>
  __device__ void each(int num_keys, const Write& write) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = warp * 16 + lane / 4 + 8 * half;
      if (key >= num_keys) continue;
#pragma unroll
      for (int n = 0; n < kE / 8; ++n)
        write(key, n * 8 + lane % 4 * 2, dk[n][2 * half], dk[n][2 * half + 1], dv[n][2 * half], dv[n][2 * half + 1]);
    }
  }
};

/// dk and dv from a segment's own queries.
template <class T, int kE>
__global__ void __launch_bounds__(kAttentionThreads) key_gradient(Backward<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  const Segment segment = segment_of(a.segments, static_cast<int>(blockIdx.y));
  const int key0 = static_cast<int>(blockIdx.x) * kAttentionTile, num_keys = min(kAttentionTile, segment.length - key0);
  if (num_keys <= 0) return;
  const int kv_head = static_cast<int>(blockIdx.z);
  const int64_t at = (segment.begin + key0) * a.in.kv_stride + kv_head * kE;
  KeyGradient<T, kE> sums;
  sums.add(
      a, memory, kv_head, a.in.k + at, a.in.v + at, num_keys, key0 * a.group.size, segment.length * a.group.size,
      [&](int row) { return segment.begin + static_cast<int64_t>(a.group.token(row)); },
      [&](int row) { return a.group.token(row) - key0; });
  const int64_t to = (segment.begin + key0) * a.gradient.d_kv_stride + kv_head * kE;
  sums.each(num_keys, [&](int key, int c, float k0, float k1, float v0, float v1) {
    *reinterpret_cast<uint32_t*>(a.gradient.dk + to + key * a.gradient.d_kv_stride + c) = pack_two<T>(k0, k1);
    *reinterpret_cast<uint32_t*>(a.gradient.dv + to + key * a.gradient.d_kv_stride + c) = pack_two<T>(v0, v1);
  });
}

/// Parts of dk and dv of prefixes from the rows behind them: a block has 64 keys and a chunk of those rows.
template <class T, int kE>
__global__ void __launch_bounds__(kAttentionThreads) prefix_gradient(Backward<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int prefix = static_cast<int>(blockIdx.y) / a.chunks, chunk = static_cast<int>(blockIdx.y) % a.chunks;
  const int first = a.prefixes.offsets[prefix], length = a.prefixes.offsets[prefix + 1] - first;
  const int key0 = static_cast<int>(blockIdx.x) * kAttentionTile, num_keys = min(kAttentionTile, length - key0);
  if (num_keys <= 0) return;
  const int kv_head = static_cast<int>(blockIdx.z);
  const int64_t* sharing = a.prefixes.sharing_rows + a.prefixes.sharing_offsets[prefix];
  const int tokens = a.prefixes.sharing_offsets[prefix + 1] - a.prefixes.sharing_offsets[prefix];
  const int each = (tokens + a.chunks - 1) / a.chunks;
  const int64_t at = a.prefixes.rows[first + key0] * a.in.kv_stride + kv_head * kE;
  KeyGradient<T, kE> sums;
  sums.add(
      a, memory, kv_head, a.in.k + at, a.in.v + at, num_keys, min(chunk * each, tokens) * a.group.size,
      min((chunk + 1) * each, tokens) * a.group.size, [&](int row) { return sharing[a.group.token(row)]; },
      [](int) { return kAttentionTile; });
  const int64_t width = static_cast<int64_t>(a.num_kv_heads) * kE, plane = a.prefixes.total * width;
  float* to = a.parts + 2 * chunk * plane + (first + key0) * width + kv_head * kE;
  sums.each(num_keys, [&](int key, int c, float k0, float k1, float v0, float v1) {
    float* row = to + key * width + c;
    row[0] = k0;
    row[1] = k1;
    row[plane] = v0;
    row[plane + 1] = v1;
  });
}

/// Adds the parts up, and to what key_gradient left.
template <class T>
__global__ void add_prefix_parts(Backward<T> a, int64_t width) {
  const int64_t token = blockIdx.x, plane = a.prefixes.total * width;
  if (token >= a.prefixes.offsets[a.prefixes.count]) return;
  T* targets[2] = {a.gradient.dk, a.gradient.dv};
  const int64_t row = a.prefixes.rows[token] * a.gradient.d_kv_stride;
  for (int64_t c = threadIdx.x; c < 2 * width; c += blockDim.x) {
    const int which = c >= width ? 1 : 0;
    const float* part = a.parts + which * plane + token * width + c % width;
    float sum = 0.0f;
    for (int chunk = 0; chunk < a.chunks; ++chunk) sum += part[2 * chunk * plane];
    T& target = targets[which][row + c % width];
    target = from_f32<T>(to_f32(target) + sum);
  }
}

int chunks_of(const AttentionShape& shape, const AttentionPrefixes& prefixes) {
  if (prefixes.count == 0) return 0;
  const int64_t blocks = ceil_div(prefixes.total, kAttentionTile) * shape.num_kv_heads;
  return static_cast<int>(std::clamp<int64_t>(kPartBlocks / blocks, 1, kMostChunks));
}

}  // namespace

int64_t attention_backward_scratch(int64_t rows, const AttentionShape& shape, const AttentionPrefixes& prefixes) {
  const int64_t width = static_cast<int64_t>(shape.num_kv_heads) * shape.head_dim;
  return rows * shape.num_heads + 2 * chunks_of(shape, prefixes) * prefixes.total * width;
}

template <class T>
void attention_backward(const AttentionInput<T>& in, const AttentionGradient<T>& gradient, int64_t rows,
                        const AttentionShape& shape, const AttentionSegments& segments,
                        const AttentionPrefixes& prefixes, float* scratch, Stream stream) {
  if (segments.count == 0 || segments.longest == 0) return;
  const Group group(shape.num_heads / shape.num_kv_heads);
  const Backward<T> a = {in,
                         gradient,
                         shape.num_heads,
                         shape.num_kv_heads,
                         group,
                         shape.scale,
                         segments,
                         prefixes,
                         scratch,
                         scratch + rows * shape.num_heads,
                         chunks_of(shape, prefixes)};
  at_width(shape.head_dim, [&]<int kE>() {
    constexpr int kQueryBytes = 4 * kAttentionTile * kE * 2, kKeyBytes = KeyGradient<T, kE>::kBytes;
    allow_memory(kAttentionMemory, query_gradient<T, kE>, kQueryBytes);
    allow_memory(kAttentionMemory, key_gradient<T, kE>, kKeyBytes);
    allow_memory(kAttentionMemory, prefix_gradient<T, kE>, kKeyBytes);
    query_gradient<T, kE><<<grid_of(ceil_div(static_cast<int64_t>(segments.longest) * group.size, kAttentionTile),
                                    segments.count, shape.num_kv_heads),
                            kAttentionThreads, kQueryBytes, stream>>>(a);
    key_gradient<T, kE><<<grid_of(ceil_div(segments.longest, kAttentionTile), segments.count, shape.num_kv_heads),
                          kAttentionThreads, kKeyBytes, stream>>>(a);
    if (prefixes.count == 0) return;
    prefix_gradient<T, kE><<<grid_of(ceil_div(prefixes.longest, kAttentionTile),
                                     static_cast<int64_t>(prefixes.count) * a.chunks, shape.num_kv_heads),
                             kAttentionThreads, kKeyBytes, stream>>>(a);
    constexpr unsigned kAddThreads = 256;
    add_prefix_parts<<<static_cast<unsigned>(prefixes.total), kAddThreads, 0, stream>>>(
        a, static_cast<int64_t>(shape.num_kv_heads) * kE);
  });
  check_launch("attention_backward");
}

#define SLMI_FOR(T)                                                                                                   \
  template void attention_backward(const AttentionInput<T>&, const AttentionGradient<T>&, int64_t,                    \
                                   const AttentionShape&, const AttentionSegments&, const AttentionPrefixes&, float*, \
                                   Stream);
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
