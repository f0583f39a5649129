// Both gradients that LoRA's update takes from dy, in one pass over it.
#include "launch.h"
#include "lora_tiles.cuh"
#include "slmi/kernels/cuda/lora.h"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kWarps = 8;  // of a block, a tile of columns each
constexpr int kRowTiles = kTileRows / kStep, kDepthTiles = kTileColumns / kStep;

/// Blocks side by side: adapter i has strips [begin[i], begin[i + 1]). The last ones are the end where there are fewer.
struct Strips {
  int64_t begin[kMaxAdapters + 1] = {};
  int64_t count() const { return begin[kMaxAdapters]; }
};

template <class T>
struct Update {
  const T* dy;
  int64_t dy_stride, rows;
  AdapterColumns columns;
  Strips strips;
  const T* p;
  int64_t p_stride;
  const T* u;
  int64_t u_stride, rows_a_piece;
  float* b_parts;   // [pieces][columns][rank]
  float* du_parts;  // [strips][rows][rank]
};

template <int kRankTiles>
constexpr int kUpdateStageBytes = kWarps* kTileBytes + kTileRows* kQRowBytes<kRankTiles>;
template <int kRankTiles>
constexpr int kShareBytes = 2 * kWarps* kTileRows* kRankTiles* kStep * 4;

/// A block: a strip of columns of one adapter, a piece of the rows. A warp: 64 of the columns; what it has of du joins
/// that of the others a tile of rows later, when all have come to the same point anyway.
template <class T, int kRankTiles, int kStages>
__global__ void __launch_bounds__(kWarps* kWarp) update(Update<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr int kRank = kRankTiles * kStep, kValues = kTileRows * kRank, kEach = kValues / (kWarps * kWarp);
  constexpr int kStageBytes = kUpdateStageBytes<kRankTiles>;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  int adapter = 0;
  while (blockIdx.x >= a.strips.begin[adapter + 1]) ++adapter;
  const int64_t tiles = (a.columns.begin[adapter + 1] - a.columns.begin[adapter]) / kTileColumns;
  const int64_t strips = a.strips.begin[adapter + 1] - a.strips.begin[adapter],
                strip = blockIdx.x - a.strips.begin[adapter];
  const int64_t first = tiles * strip / strips, last = tiles * (strip + 1) / strips;
  const bool has_columns = first + warp < last;
  const int64_t column0 = a.columns.begin[adapter] + (first + warp) * kTileColumns;
  const T* u = a.u + adapter * kRank;
  const int64_t row_begin = blockIdx.y * a.rows_a_piece, row_end = min(a.rows, row_begin + a.rows_a_piece);
  const int steps = static_cast<int>((row_end - row_begin + kTileRows - 1) / kTileRows);
  const uint32_t stages = shared_address(memory);
  auto* shares = reinterpret_cast<float*>(memory + kStages * kStageBytes);  // [2][warps][rows][rank]

  const auto fetch = [&](int s) {
    if (s < steps) {
      const uint32_t stage = stages + static_cast<uint32_t>(s % kStages * kStageBytes);
      const int64_t row0 = row_begin + static_cast<int64_t>(s) * kTileRows;
      if (has_columns)
        fetch_tile(stage + static_cast<uint32_t>(warp * kTileBytes), a.dy, a.dy_stride, row0, row_end, column0, lane);
      constexpr int kUChunks = kRank / kChunk;
      if (thread < kTileRows * kUChunks) {
        const int row = thread / kUChunks, chunk = thread % kUChunks;
        const bool there = row0 + row < row_end;
        copy_async(stage + static_cast<uint32_t>(kWarps * kTileBytes + row * kQRowBytes<kRankTiles> + chunk * 16),
                   there ? u + (row0 + row) * a.u_stride + chunk * kChunk : u, there);
      }
    }
    commit_copies();
  };
  const auto add_shares = [&](int s) {
    const int i = thread * kEach;
    const int64_t row = row_begin + static_cast<int64_t>(s) * kTileRows + i / kRank;
    if (row >= row_end) return;
    Pack<float, kEach> sum = {};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const auto share = load<kEach>(shares + (s % 2 * kWarps + w) * kValues + i);
#pragma unroll
      for (int j = 0; j < kEach; ++j) sum.values[j] += share.values[j];
    }
    store<kEach>(a.du_parts + (static_cast<int64_t>(blockIdx.x) * a.rows + row) * kRank + i % kRank, sum);
  };

  uint32_t p[kDepthTiles][kRankTiles * 2][2] = {};
  if (has_columns) {
#pragma unroll
    for (int k = 0; k < kDepthTiles; ++k) {
#pragma unroll
      for (int r = 0; r < kRankTiles * 2; ++r) {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          p[k][r][i] = *reinterpret_cast<const uint32_t*>(a.p + (r * 8 + lane / 4) * a.p_stride + column0 + k * kStep +
                                                          lane % 4 * 2 + i * 8);
      }
    }
  } else {  // no share of du
    for (int i = lane; i < 2 * kValues; i += kWarp)
      shares[(i / kValues * kWarps + warp) * kValues + i % kValues] = 0.0f;
  }

  float b_sums[kRankTiles][kColumnTiles][4] = {};
  for (int s = 0; s < kStages - 1; ++s) fetch(s);
  for (int s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncthreads();  // all copies of this stage are there, the last stage was read, the last shares are written
    fetch(s + kStages - 1);
    if (s > 0) add_shares(s - 1);
    if (!has_columns) continue;
    const uint32_t stage = stages + static_cast<uint32_t>(s % kStages * kStageBytes);
    const uint32_t tile = stage + static_cast<uint32_t>(warp * kTileBytes), u_tile = stage + kWarps * kTileBytes;
    add_products<kTileRows, T>(b_sums, u_tile, tile, lane);
    const int matrix = lane / 8;
    float* share = shares + (s % 2 * kWarps + warp) * kValues;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      float du[kRankTiles * 2][4] = {};
#pragma unroll
      for (int k = 0; k < kDepthTiles; ++k) {
        uint32_t rows[4];  // 16 rows, in two halves of the depth
        load_matrices(rows, tile + tile_offset(n * kStep + 8 * (matrix % 2) + lane % 8, k * 2 + matrix / 2));
#pragma unroll
        for (int r = 0; r < kRankTiles * 2; ++r) multiply_add(T{}, du[r], rows, p[k][r][0], p[k][r][1]);
      }
#pragma unroll
      for (int r = 0; r < kRankTiles * 2; ++r) {
#pragma unroll
        for (int half = 0; half < 2; ++half)
          store<2>(share + (n * kStep + half * 8 + lane / 4) * kRank + r * 8 + lane % 4 * 2,
                   Pack<float, 2>{du[r][half * 2], du[r][half * 2 + 1]});
      }
    }
  }
  wait_copies<0>();
  __syncthreads();
  if (steps > 0) add_shares(steps - 1);
  if (!has_columns) return;
  float* part = a.b_parts + (blockIdx.y * a.columns.begin[a.columns.count] + column0) * kRank;
#pragma unroll
  for (int m = 0; m < kRankTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = m * kStep + lane / 4 + 8 * (i / 2), c = n * 8 + lane % 4 * 2 + i % 2;
        part[c * kRank + r] = b_sums[m][n][i];
      }
    }
  }
}

template <class T>
struct Finish {
  PieceSums b;
  int64_t b_blocks;
  const float* du_parts;
  Strips strips;
  int64_t rows, rank, adapters;
  T* du;
  int64_t du_stride;
};

/// The first blocks add up the pieces of B's gradients, the others du's strips.
template <class T>
__global__ void finish(Finish<T> a) {
  if (blockIdx.x < a.b_blocks) return add_up(a.b, static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
  const int64_t i = (blockIdx.x - a.b_blocks) * blockDim.x + threadIdx.x, size = a.rows * a.rank;  // of one adapter
  if (i >= size * a.adapters) return;
  const int64_t adapter = i / size, at = i % size;
  float sum = 0.0f;
  for (int64_t strip = a.strips.begin[adapter]; strip < a.strips.begin[adapter + 1]; ++strip)
    sum += a.du_parts[strip * size + at];
  a.du[at / a.rank * a.du_stride + adapter * a.rank + at % a.rank] = from_f32<T>(sum);
}

Strips strips_of(const AdapterColumns& columns) {
  Strips out;
  for (int i = 0; i < kMaxAdapters; ++i) {
    const int64_t width = i < columns.count ? columns.begin[i + 1] - columns.begin[i] : 0;
    out.begin[i + 1] = out.begin[i] + ceil_div(width, kWarps * kTileColumns);
  }
  return out;
}

RowPieces pieces_of(int64_t rows, const Strips& strips) {
  return cut_rows(rows, kTileRows, strips.count(), kGradientBlocks);
}

/// Registers and shared memory of some cards end at two tiles of ranks and one.
bool in_one_pass(int64_t rank) {
  if (rank == kStep) return true;
  return rank == 2 * kStep && 2 * kUpdateStageBytes<2> + kShareBytes<2> <= most_shared_memory(kMemory);
}

}  // namespace

int64_t lora_update_gradients_scratch(int64_t rows, const AdapterColumns& columns, int64_t rank) {
  if (rows == 0) return 0;
  if (!in_one_pass(rank)) return lora_gradient_scratch(rows, columns, rank);
  const Strips strips = strips_of(columns);
  return (pieces_of(rows, strips).count * total_columns(columns) + strips.count() * rows) * rank;
}

template <class T>
void lora_update_gradients(const T* dy, int64_t dy_stride, int64_t rows, const AdapterColumns& columns, const T* p,
                           int64_t p_stride, const T* u, int64_t u_stride, int64_t rank, T* du, int64_t du_stride,
                           float scale, const AdapterTargets& targets, float* scratch, Stream stream) {
  if (rows == 0) return;
  if (!in_one_pass(rank)) {
    lora_project(dy, dy_stride, rows, columns, p, p_stride, rank, du, du_stride, stream);
    return lora_gradient(dy, dy_stride, rows, columns, u, u_stride, rank, GradientLayout::ColumnsFirst, scale, targets,
                         scratch, stream);
  }
  const Strips strips = strips_of(columns);
  const RowPieces pieces = pieces_of(rows, strips);
  const int64_t b_size = total_columns(columns) * rank;
  float* du_parts = scratch + pieces.count * b_size;
  const Update<T> a = {dy, dy_stride, rows, columns, strips, p, p_stride, u, u_stride, pieces.rows, scratch, du_parts};
  const auto run = [&]<int kRankTiles>() {
    const dim3 grid(static_cast<unsigned>(strips.count()), static_cast<unsigned>(pieces.count));
    at_stages(kUpdateStageBytes<kRankTiles>, kShareBytes<kRankTiles>, [&]<int kStages>(int bytes) {
      allow_memory(kMemory, update<T, kRankTiles, kStages>, bytes);
      update<T, kRankTiles, kStages><<<grid, kWarps * kWarp, static_cast<size_t>(bytes), stream>>>(a);
    });
  };
  rank == kStep ? run.template operator()<1>() : run.template operator()<2>();

  const int64_t b_blocks = ceil_div(b_size, kSumThreads),
                du_blocks = ceil_div(rows * rank * columns.count, kSumThreads);
  const Finish<T> f = {piece_sums(scratch, pieces.count, b_size, scale, targets),
                       b_blocks,
                       du_parts,
                       strips,
                       rows,
                       rank,
                       columns.count,
                       du,
                       du_stride};
  finish<<<static_cast<unsigned>(b_blocks + du_blocks), kSumThreads, 0, stream>>>(f);
  check_launch("lora_update_gradients");
}

#define SLMI_FOR(T)                                                                                                   \
  template void lora_update_gradients(const T*, int64_t, int64_t, const AdapterColumns&, const T*, int64_t, const T*, \
                                      int64_t, int64_t, T*, int64_t, float, const AdapterTargets&, float*, Stream);
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
