// What attention's kernels share: tiles of rows in shared memory, their products on tensor cores, and which keys a
// segment's queries see. A block of four warps has a tile of 64 query rows of one key head, or of 64 keys; scores never
// leave the registers.
#pragma once

#include "launch.h"
#include "slmi/kernels/cuda/attention.h"
#include "tensor_core.cuh"

namespace slmi::kernels::cuda::detail {

constexpr int kAttentionWarps = 4, kAttentionThreads = kAttentionWarps * kWarp;
constexpr int kAttentionTile = 64;  // query rows, or keys, of a block: 16 a warp
constexpr const char* kAttentionMemory = "shared memory of attention";

/// Rows of kWidth numbers in shared memory; the 16 bytes of a row are mixed with its number, so that eight rows of one
/// column are in different banks.
template <class T, int kWidth>
struct Tile {
  static constexpr int kChunks = kWidth / 8;
  static constexpr int kRowBytes = kWidth * 2;
  uint32_t base;

  __device__ uint32_t at(int row, int chunk) const {
    return base + static_cast<uint32_t>(row * kRowBytes + ((chunk ^ (row % 8)) * 16));
  }
  /// Starts copying `rows` rows; from(row) gives where a row lies, or null: zeros. `anywhere` is any address that
  /// exists.
  template <class From>
  __device__ void fetch(int rows, const T* anywhere, const From& from) const {
    for (int i = static_cast<int>(threadIdx.x); i < rows * kChunks; i += kAttentionThreads) {
      const int row = i / kChunks, chunk = i % kChunks;
      const T* source = from(row);
      copy_async(at(row, chunk), source != nullptr ? source + chunk * 8 : anywhere, source != nullptr);
    }
  }
  /// The left side of a product: rows [row0, row0 + 16), columns [16 * k, 16 * k + 16).
  __device__ void left(uint32_t (&r)[4], int row0, int k, int lane) const {
    const int matrix = lane / 8;
    load_matrices(r, at(row0 + 8 * (matrix % 2) + lane % 8, 2 * k + matrix / 2));
  }
  /// The right side, this tile's rows being the product's columns: two tiles of 8 columns, depth [16 * k, 16 * k + 16).
  __device__ void right(uint32_t (&r)[4], int row0, int k, int lane) const {
    const int matrix = lane / 8;
    load_matrices(r, at(row0 + 8 * (matrix / 2) + lane % 8, 2 * k + matrix % 2));
  }
  /// The right side, this tile's columns being the product's columns: columns [8 * n, 8 * n + 16), depth rows [row0,
  /// row0 + 16).
  __device__ void right_transposed(uint32_t (&r)[4], int row0, int n, int lane) const {
    const int matrix = lane / 8;
    load_matrices_transposed(r, at(row0 + 8 * (matrix % 2) + lane % 8, n + matrix / 2));
  }
};

/// Rows of a tile are (token, head of the group) pairs; a division for each would cost more than the scores.
struct Group {
  int size;
  uint32_t inverse;  // ceil(2^32 / size), exact for rows below 2^32 / size; 0 for one head

  __host__ __device__ explicit Group(int heads)
      : size(heads), inverse(heads == 1 ? 0 : static_cast<uint32_t>(((uint64_t{1} << 32) + heads - 1) / heads)) {}
  __device__ int token(int row) const {
    return inverse == 0 ? row : static_cast<int>(__umulhi(static_cast<uint32_t>(row), inverse));
  }
  __device__ int head(int row) const { return row - token(row) * size; }
};

/// What a segment is: its tokens and its prefix.
struct Segment {
  int begin, length, prefix_begin, prefix_length;
};
__device__ inline Segment segment_of(const AttentionSegments& segments, int s) {
  Segment out;
  out.begin = segments.offsets[s];
  out.length = segments.offsets[s + 1] - out.begin;
  out.prefix_begin = segments.prefix != nullptr ? segments.prefix[2 * s] : 0;
  out.prefix_length = segments.prefix != nullptr ? segments.prefix[2 * s + 1] : 0;
  return out;
}

/// sums [16, 8 * kColumnTiles] += left rows [row0, row0 + 16) times the right tile's rows [column0, ...).
template <class T, int kE, int kColumnTiles>
__device__ void scores(float (&sums)[kColumnTiles][4], const Tile<T, kE>& left, int row0, const Tile<T, kE>& right,
                       int column0, int lane) {
#pragma unroll
  for (int k = 0; k < kE / 16; ++k) {
    uint32_t a[4];
    left.left(a, row0, k, lane);
#pragma unroll
    for (int n = 0; n < kColumnTiles; n += 2) {
      uint32_t b[4];
      right.right(b, column0 + n * 8, k, lane);
      multiply_add(T{}, sums[n], a, b[0], b[1]);
      multiply_add(T{}, sums[n + 1], a, b[2], b[3]);
    }
  }
}

/// sums [16, kE] += weights [16, 8 * kDepthTiles], rounded, times the right tile's rows [row0, ...).
template <class T, int kE, int kDepthTiles>
__device__ void weighted(float (&sums)[kE / 8][4], const float (&weights)[kDepthTiles][4], const Tile<T, kE>& right,
                         int row0, int lane) {
#pragma unroll
  for (int k = 0; k < kDepthTiles; k += 2) {
    const uint32_t a[4] = {pack_two<T>(weights[k][0], weights[k][1]), pack_two<T>(weights[k][2], weights[k][3]),
                           pack_two<T>(weights[k + 1][0], weights[k + 1][1]),
                           pack_two<T>(weights[k + 1][2], weights[k + 1][3])};
#pragma unroll
    for (int n = 0; n < kE / 8; n += 2) {
      uint32_t b[4];
      right.right_transposed(b, row0 + k * 8, n, lane);
      multiply_add(T{}, sums[n], a, b[0], b[1]);
      multiply_add(T{}, sums[n + 1], a, b[2], b[3]);
    }
  }
}

/// Blocks of up to 64 keys that a segment's queries see: first its prefix, then its own tokens.
struct KeyBlocks {
  Segment segment;
  int own;  // own tokens that the tile's last query sees

  __device__ int prefix_blocks() const { return (segment.prefix_length + kAttentionTile - 1) / kAttentionTile; }
  __device__ int count() const { return prefix_blocks() + (own + kAttentionTile - 1) / kAttentionTile; }
  struct Block {
    int row;       // of its first key
    int keys;      // that it has
    int position;  // of the first key among the own tokens; before all of them for a prefix
  };
  __device__ Block block(int i) const {
    if (i < prefix_blocks())
      return {segment.prefix_begin + i * kAttentionTile,
              min(kAttentionTile, segment.prefix_length - i * kAttentionTile), -(1 << 24)};
    const int first = (i - prefix_blocks()) * kAttentionTile;
    return {segment.begin + first, min(kAttentionTile, own - first), first};
  }
};

/// A block's query rows and key head: rows are those of the segment, a head of the group after the other.
struct QueryBlock {
  Segment segment;
  int row0, rows, kv_head;

  __device__ QueryBlock(const AttentionSegments& segments, const Group& group)
      : segment(segment_of(segments, static_cast<int>(blockIdx.y))),
        row0(static_cast<int>(blockIdx.x) * kAttentionTile),
        rows(segment.length * group.size),
        kv_head(static_cast<int>(blockIdx.z)) {}
  __device__ int head(const Group& group, int row) const { return kv_head * group.size + group.head(row); }
  __device__ KeyBlocks keys(const Group& group) const {
    return {segment, group.token(min(row0 + kAttentionTile, rows) - 1) + 1};
  }
};

/// Starts copying a block's keys and values; what it does not have is zero.
template <class T, int kE>
__device__ void fetch_keys(const Tile<T, kE>& k, const Tile<T, kE>& v, const AttentionInput<T>& in,
                           const KeyBlocks::Block& block, int kv_head) {
  k.fetch(kAttentionTile, in.q, [&](int r) -> const T* {
    return r < block.keys ? in.k + (block.row + r) * in.kv_stride + kv_head * kE : nullptr;
  });
  v.fetch(kAttentionTile, in.q, [&](int r) -> const T* {
    return r < block.keys ? in.v + (block.row + r) * in.kv_stride + kv_head * kE : nullptr;
  });
  commit_copies();
}

/// run.operator()<E>().
template <class Run>
void at_width(int head_dim, const Run& run) {
  if (head_dim == 64) return run.template operator()<64>();
  if (head_dim == 128) return run.template operator()<128>();
  refuse("attention", "a head width that is not 64 or 128");
}

inline dim3 grid_of(int64_t tiles, int64_t segments, int64_t heads) {
  return {static_cast<unsigned>(tiles), static_cast<unsigned>(segments), static_cast<unsigned>(heads)};
}

}  // namespace slmi::kernels::cuda::detail
