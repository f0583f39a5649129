// Tiles that the kernels of LoRA's products stream through shared memory, and what else they share.
#pragma once

#include <algorithm>

#include "slmi/kernels/cuda/lora.h"
#include "tensor_core.cuh"

namespace slmi::kernels::cuda::detail {

constexpr int kTileRows = 32, kTileColumns = 64, kTileBytes = kTileRows * kTileColumns * 2;
constexpr int kStep = 16;       // of a tensor core product: its depth, and the rank of one tile
constexpr int kChunk = 16 / 2;  // elements of 16 bytes
constexpr int kChunksARow = kTileColumns / kChunk;
constexpr int kMaxRankTiles = 4;
constexpr int64_t kGradientBlocks = 128;  // about as many as an H100 has multiprocessors

/// Where 16 bytes of a tile lie: their place in the row is mixed with the row, so that eight rows of one column are in
/// different banks.
__device__ inline uint32_t tile_offset(int row, int chunk) {
  return static_cast<uint32_t>((row * kChunksARow + (chunk ^ (row % 8))) * 16);
}

/// A warp starts copying x[row0 .. row0 + kRows)[column0 .. column0 + 64); rows from `rows` on are zero.
template <int kRows = kTileRows, class T>
__device__ void fetch_tile(uint32_t tile, const T* x, int64_t stride, int64_t row0, int64_t rows, int64_t column0,
                           int lane) {
#pragma unroll
  for (int i = 0; i < kRows * kChunksARow / kWarp; ++i) {
    const int id = i * kWarp + lane, row = id / kChunksARow, chunk = id % kChunksARow;
    const bool there = row0 + row < rows;
    copy_async(tile + tile_offset(row, chunk), there ? x + (row0 + row) * stride + column0 + chunk * kChunk : x, there);
  }
}

/// Bytes between rows of q in shared memory: 16 more than the row, which puts eight rows into different banks.
template <int kRankTiles>
constexpr int kQRowBytes = kRankTiles* kStep * 2 + 16;

constexpr int kColumnTiles = kTileColumns / 8;  // of one product

/// A warp's part of a gradient: sums += q^T x, of tiles of kRows rows in shared memory, [16 * kRankTiles, 64].
template <int kRows, class T, int kRankTiles>
__device__ void add_products(float (&sums)[kRankTiles][kColumnTiles][4], uint32_t q_tile, uint32_t x_tile, int lane) {
  const int matrix = lane / 8;
#pragma unroll
  for (int k = 0; k < kRows / kStep; ++k) {
    uint32_t left[kRankTiles][4];
#pragma unroll
    for (int m = 0; m < kRankTiles; ++m) {
      const int row = k * kStep + 8 * (matrix / 2) + lane % 8, r = m * kStep + 8 * (matrix % 2);
      load_matrices_transposed(left[m], q_tile + static_cast<uint32_t>(row * kQRowBytes<kRankTiles> + r * 2));
    }
#pragma unroll
    for (int n = 0; n < kColumnTiles; n += 2) {  // two tiles of 8 columns, each in two halves of the depth
      uint32_t right[4];
      load_matrices_transposed(right, x_tile + tile_offset(k * kStep + 8 * (matrix % 2) + lane % 8, n + matrix / 2));
#pragma unroll
      for (int m = 0; m < kRankTiles; ++m) {
        multiply_add(T{}, sums[m][n], left[m], right[0], right[1]);
        multiply_add(T{}, sums[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/// run.operator()<rank / 16>().
template <class Run>
void at_rank(int64_t rank, const Run& run) {
  switch (rank) {
    case 16:
      return run.template operator()<1>();
    case 32:
      return run.template operator()<2>();
    case 48:
      return run.template operator()<3>();
    case 64:
      return run.template operator()<4>();
    default:
      refuse("LoRA product", "a rank that is not 16, 32, 48 or 64");
  }
}

constexpr const char* kMemory = "shared memory of a LoRA product";

/// run.operator()<stages>(bytes): three in flight, or two on cards whose blocks have no memory for more (sm_86, sm_89).
template <class Run>
void at_stages(int stage_bytes, int other_bytes, const Run& run) {
  const auto bytes = [&](int stages) { return stages * stage_bytes + other_bytes; };
  bytes(3) <= most_shared_memory(kMemory) ? run.template operator()<3>(bytes(3)) : run.template operator()<2>(bytes(2));
}

inline int64_t total_columns(const AdapterColumns& columns) {
  return columns.begin[columns.count];
}

/// How the rows are shared out to blocks, by the shapes alone, so that sums do not depend on the card.
struct RowPieces {
  int64_t count, rows;  // rows of each but the last: whole tiles
};
/// About `blocks` of them in all, where `beside` share each row.
inline RowPieces cut_rows(int64_t rows, int64_t tile_rows, int64_t beside, int64_t blocks) {
  const int64_t wanted = std::clamp<int64_t>(blocks / beside, 1, ceil_div(rows, tile_rows));
  const int64_t each = ceil_div(ceil_div(rows, wanted), tile_rows) * tile_rows;
  return {ceil_div(rows, each), each};
}

/// Sums of pieces, [pieces][size], that are added to targets, which follow each other.
struct PieceSums {
  const float* parts;
  int pieces;
  int64_t size;
  float scale;
  float* targets[kMaxAdapters];
  int64_t begin[kMaxAdapters + 1];  // the last ones are the end where there are fewer
};
inline PieceSums piece_sums(const float* parts, int64_t pieces, int64_t size, float scale,
                            const AdapterTargets& targets) {
  PieceSums out = {parts, static_cast<int>(pieces), size, scale, {}, {}};
  for (int i = 0; i < kMaxAdapters; ++i) {
    out.targets[i] = targets.data[i];
    out.begin[i + 1] = out.begin[i] + targets.size[i];
  }
  return out;
}

__device__ inline void add_up(const PieceSums& a, int64_t i) {
  if (i >= a.size) return;
  float sum = 0.0f;
  for (int piece = 0; piece < a.pieces; ++piece) sum += a.parts[piece * a.size + i];
  int target = 0;
  while (i >= a.begin[target + 1]) ++target;
  a.targets[target][i - a.begin[target]] += a.scale * sum;
}
static __global__ void add_all_up(PieceSums a) {
  add_up(a, static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
}

constexpr unsigned kSumThreads = 256;
inline void launch_add_up(const PieceSums& a, Stream stream) {
  add_all_up<<<static_cast<unsigned>(ceil_div(a.size, kSumThreads)), kSumThreads, 0, stream>>>(a);
}

}  // namespace slmi::kernels::cuda::detail
