// Thin products on tensor cores. Each warp streams tiles of x of 32 rows and 64 columns through its own shared memory,
// several in flight; what is done with a tile costs less than reading it.
#include "slmi/kernels/cuda/lora.h"

#include <algorithm>

#include "launch.h"
#include "lora_tiles.cuh"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kProjectWarps = 8, kGradientWarps = 4;

template <class T>
struct Project {
  const T* x;
  int64_t x_stride, rows;
  AdapterColumns columns;
  const T* p;
  int64_t p_stride;
  T* out;
  int64_t out_stride;
};

/// A block: 32 rows, the columns of one adapter shared out to its warps, which add up at the end.
template <class T, int kRankTiles, int kStages>
__global__ void __launch_bounds__(kProjectWarps* kWarp) project(Project<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr int kRowTiles = kTileRows / 8;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row0 = static_cast<int64_t>(blockIdx.x) * kTileRows;
  const int64_t first = a.columns.begin[blockIdx.y], width = a.columns.begin[blockIdx.y + 1] - first;
  const uint32_t tiles = shared_address(memory) + static_cast<uint32_t>(warp * kStages * kTileBytes);
  const int steps = static_cast<int>((width / kTileColumns - warp + kProjectWarps - 1) / kProjectWarps);
  const auto column_of = [&](int s) { return first + static_cast<int64_t>(warp + s * kProjectWarps) * kTileColumns; };
  const auto fetch = [&](int s) {
    if (s < steps)
      fetch_tile(tiles + static_cast<uint32_t>(s % kStages * kTileBytes), a.x, a.x_stride, row0, a.rows, column_of(s),
                 lane);
    commit_copies();
  };
  float sums[kRankTiles][kRowTiles][4] = {};
  for (int s = 0; s < kStages - 1; ++s) fetch(s);
  for (int s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncwarp();  // all lanes' copies are there, and all have read the tile that is overwritten next
    fetch(s + kStages - 1);
    const uint32_t tile = tiles + static_cast<uint32_t>(s % kStages * kTileBytes);
    const T* p = a.p + column_of(s);
#pragma unroll
    for (int k = 0; k < kTileColumns / kStep; ++k) {
      uint32_t left[kRankTiles][4];
#pragma unroll
      for (int m = 0; m < kRankTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int r = m * kStep + lane / 4 + 8 * (i % 2), c = k * kStep + lane % 4 * 2 + 8 * (i / 2);
          left[m][i] = *reinterpret_cast<const uint32_t*>(p + r * a.p_stride + c);
        }
      }
#pragma unroll
      for (int n = 0; n < kRowTiles; n += 2) {  // two tiles of 8 rows, each in two halves of the depth
        uint32_t right[4];
        const int matrix = lane / 8, row = (n + matrix / 2) * 8 + lane % 8, chunk = k * 2 + matrix % 2;
        load_matrices(right, tile + tile_offset(row, chunk));
#pragma unroll
        for (int m = 0; m < kRankTiles; ++m) {
          multiply_add(T{}, sums[m][n], left[m], right[0], right[1]);
          multiply_add(T{}, sums[m][n + 1], left[m], right[2], right[3]);
        }
      }
    }
  }
  wait_copies<0>();
  __syncthreads();                               // the tiles' memory is free
  auto* all = reinterpret_cast<float*>(memory);  // [warps][rows][rank]
  constexpr int kRank = kRankTiles * kStep, kValues = kTileRows * kRank;
#pragma unroll
  for (int m = 0; m < kRankTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = m * kStep + lane / 4 + 8 * (i / 2), row = n * 8 + lane % 4 * 2 + i % 2;
        all[warp * kValues + row * kRank + r] = sums[m][n][i];
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kValues; i += kProjectWarps * kWarp) {
    const int64_t row = row0 + i / kRank;
    if (row >= a.rows) continue;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kProjectWarps; ++w) sum += all[w * kValues + i];
    a.out[row * a.out_stride + blockIdx.y * kRank + i % kRank] = from_f32<T>(sum);
  }
}

template <class T>
struct Gradient {
  const T* x;
  int64_t x_stride, rows;
  AdapterColumns columns;
  const T* q;
  int64_t q_stride;
  int64_t rows_a_piece;
  float* parts;  // [pieces][rank * columns], in the layout of the gradients
  int64_t rank_step, column_step;
};

template <int kRankTiles>
constexpr int kGradientStageBytes = kTileBytes + kTileRows* kQRowBytes<kRankTiles>;

/// A warp: 64 columns, a piece of the rows.
template <class T, int kRankTiles, int kStages>
__global__ void __launch_bounds__(kGradientWarps* kWarp) gradient(Gradient<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr int kStageBytes = kGradientStageBytes<kRankTiles>;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t column0 = (static_cast<int64_t>(blockIdx.x) * kGradientWarps + warp) * kTileColumns;
  if (column0 >= a.columns.begin[a.columns.count]) return;
  int adapter = 0;
  while (column0 >= a.columns.begin[adapter + 1]) ++adapter;
  const T* q = a.q + adapter * kRankTiles * kStep;
  const int64_t row_begin = blockIdx.y * a.rows_a_piece, row_end = min(a.rows, row_begin + a.rows_a_piece);
  const int steps = static_cast<int>((row_end - row_begin + kTileRows - 1) / kTileRows);
  const uint32_t stages = shared_address(memory) + static_cast<uint32_t>(warp * kStages * kStageBytes);
  const auto fetch = [&](int s) {
    if (s < steps) {
      const uint32_t stage = stages + static_cast<uint32_t>(s % kStages * kStageBytes);
      const int64_t row0 = row_begin + static_cast<int64_t>(s) * kTileRows;
      fetch_tile(stage, a.x, a.x_stride, row0, row_end, column0, lane);
      constexpr int kQChunks = kRankTiles * kStep / kChunk;
#pragma unroll
      for (int i = 0; i < kTileRows * kQChunks / kWarp; ++i) {
        const int id = i * kWarp + lane, row = id / kQChunks, chunk = id % kQChunks;
        const bool there = row0 + row < row_end;
        copy_async(stage + kTileBytes + static_cast<uint32_t>(row * kQRowBytes<kRankTiles> + chunk * 16),
                   there ? q + (row0 + row) * a.q_stride + chunk * kChunk : q, there);
      }
    }
    commit_copies();
  };
  float sums[kRankTiles][kColumnTiles][4] = {};
  for (int s = 0; s < kStages - 1; ++s) fetch(s);
  for (int s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncwarp();
    fetch(s + kStages - 1);
    const uint32_t tile = stages + static_cast<uint32_t>(s % kStages * kStageBytes), q_tile = tile + kTileBytes;
    add_products<kTileRows, T>(sums, q_tile, tile, lane);
  }
  float* part = a.parts + blockIdx.y * a.columns.begin[a.columns.count] * (kRankTiles * kStep);
#pragma unroll
  for (int m = 0; m < kRankTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t r = m * kStep + lane / 4 + 8 * (i / 2), c = column0 + n * 8 + lane % 4 * 2 + i % 2;
        part[r * a.rank_step + c * a.column_step] = sums[m][n][i];
      }
    }
  }
}

constexpr size_t kMostRefreshed = 48;  // of one launch

template <class T>
struct Refresh {
  AdapterForms<T> adapters[kMostRefreshed];
};
static_assert(sizeof(Refresh<Bf16>) <= 4096, "what a launch may be given");

/// Threads walk over A, V columns each, then over B, V of a row each: neighbours have neighbouring rows, which makes
/// whole lines of the transpose.
template <class T, int V>
__global__ void refresh(const __grid_constant__ Refresh<T> all) {
  const AdapterForms<T>& f = all.adapters[blockIdx.y];
  const uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x, threads = gridDim.x * blockDim.x;
  const auto rank = static_cast<uint32_t>(f.rank), k = static_cast<uint32_t>(f.k), n = static_cast<uint32_t>(f.n);
  for (uint32_t i = thread; i < rank * k / V; i += threads) {
    const auto a = load<V>(f.a + i * V);
    Pack<T, V> out;
#pragma unroll
    for (int j = 0; j < V; ++j) out.values[j] = from_f32<T>(a.values[j]);
    store<V>(f.a_out + i * V / k * f.a_stride + i * V % k, out);
  }
  for (uint32_t i = thread; i < n * (rank / V); i += threads) {
    const uint32_t row = i % n, r = i / n * V;
    const auto b = load<V>(f.b + row * rank + r);
    Pack<T, V> out;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      out.values[j] = from_f32<T>(b.values[j] * f.scale);
      f.transposed[(r + j) * f.transposed_stride + row] = out.values[j];
    }
    store<V>(f.columns + row * f.columns_stride + r, out);
  }
}

/// Whether refresh() may go through an adapter V values at a time.
template <class T, int V>
bool refreshes_by(const AdapterForms<T>& f) {
  return packs<float, V>(f.a, f.k, f.k) && packs<T, V>(f.a_out, f.a_stride, f.k) && packs<float, V>(f.b, f.rank, 0) &&
         packs<T, V>(f.columns, f.columns_stride, f.rank);
}

template <class T, int V>
__global__ void copy(const T* x, int64_t x_stride, uint32_t count, uint32_t packs, T* out, int64_t out_stride) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int64_t row = i / packs, column = i % packs * V;
  store<V>(out + row * out_stride + column, load<V>(x + row * x_stride + column));
}

RowPieces pieces_of(int64_t rows, const AdapterColumns& columns) {
  return cut_rows(rows, kTileRows, ceil_div(total_columns(columns), kGradientWarps * kTileColumns), kGradientBlocks);
}

}  // namespace

template <class T>
bool lora_fits(int compute_capability, const T* x, int64_t x_stride, const AdapterColumns& columns, int64_t rank) {
  if (compute_capability < 80 || rank <= 0 || rank % kStep != 0 || rank > kMaxRankTiles * kStep) return false;
  for (int i = 0; i <= columns.count; ++i)
    if (columns.begin[i] % kTileColumns != 0) return false;
  return packs<T, kChunk>(x, x_stride, 0);
}

template <class T>
void lora_refresh(std::span<const AdapterForms<T>> adapters, Stream stream) {
  for (size_t begin = 0; begin < adapters.size(); begin += kMostRefreshed) {
    const auto some = adapters.subspan(begin, std::min(kMostRefreshed, adapters.size() - begin));
    Refresh<T> all;
    std::ranges::copy(some, all.adapters);
    const auto run = [&]<int V>() {
      constexpr unsigned kThreads = 256;
      constexpr int64_t kMostBlocks = 64;  // for each adapter
      int64_t most = 0;
      for (const auto& f : some) most = std::max<int64_t>(most, int64_t{f.rank} * std::max(f.k, f.n));
      const dim3 grid(static_cast<unsigned>(std::clamp<int64_t>(ceil_div(most / V, kThreads), 1, kMostBlocks)),
                      static_cast<unsigned>(some.size()));
      refresh<T, V><<<grid, kThreads, 0, stream>>>(all);
    };
    std::ranges::all_of(some, refreshes_by<T, kChunk>) ? run.template operator()<kChunk>()
                                                       : run.template operator()<1>();
    check_launch("lora_refresh");
  }
}

template <class T>
void copy_rows(const T* x, int64_t x_stride, int64_t rows, int64_t width, T* out, int64_t out_stride, Stream stream) {
  if (rows == 0 || width == 0) return;
  constexpr unsigned kThreads = 256;
  const auto run = [&]<int V>() {
    const int64_t count = rows * (width / V);
    copy<T, V><<<static_cast<unsigned>(ceil_div(count, kThreads)), kThreads, 0, stream>>>(
        x, x_stride, static_cast<uint32_t>(count), static_cast<uint32_t>(width / V), out, out_stride);
  };
  packs<T, kChunk>(x, x_stride, width) && packs<T, kChunk>(out, out_stride, 0) ? run.template operator()<kChunk>()
                                                                               : run.template operator()<1>();
  check_launch("copy_rows");
}

template <class T>
void lora_project(const T* x, int64_t x_stride, int64_t rows, const AdapterColumns& columns, const T* p,
                  int64_t p_stride, int64_t rank, T* out, int64_t out_stride, Stream stream) {
  if (rows == 0) return;
  const Project<T> a = {x, x_stride, rows, columns, p, p_stride, out, out_stride};
  at_rank(rank, [&]<int kRankTiles>() {
    constexpr int kStageBytes = kProjectWarps * kTileBytes;
    static_assert(kProjectWarps * kTileRows * kRankTiles * kStep * 4 <= 2 * kStageBytes,
                  "the sums take the tiles' place");
    const dim3 grid(static_cast<unsigned>(ceil_div(rows, kTileRows)), static_cast<unsigned>(columns.count));
    at_stages(kStageBytes, 0, [&]<int kStages>(int bytes) {
      allow_memory(kMemory, project<T, kRankTiles, kStages>, bytes);
      project<T, kRankTiles, kStages><<<grid, kProjectWarps * kWarp, static_cast<size_t>(bytes), stream>>>(a);
    });
  });
  check_launch("lora_project");
}

int64_t lora_gradient_scratch(int64_t rows, const AdapterColumns& columns, int64_t rank) {
  return rows == 0 ? 0 : pieces_of(rows, columns).count * total_columns(columns) * rank;
}

template <class T>
void lora_gradient(const T* x, int64_t x_stride, int64_t rows, const AdapterColumns& columns, const T* q,
                   int64_t q_stride, int64_t rank, GradientLayout layout, float scale, const AdapterTargets& targets,
                   float* scratch, Stream stream) {
  if (rows == 0) return;
  const RowPieces pieces = pieces_of(rows, columns);
  const int64_t width = total_columns(columns);
  const bool rank_first = layout == GradientLayout::RankFirst;
  const Gradient<T> a = {
      x, x_stride, rows, columns, q, q_stride, pieces.rows, scratch, rank_first ? width : 1, rank_first ? 1 : rank};
  at_rank(rank, [&]<int kRankTiles>() {
    const dim3 grid(static_cast<unsigned>(ceil_div(width, kGradientWarps * kTileColumns)),
                    static_cast<unsigned>(pieces.count));
    at_stages(kGradientWarps * kGradientStageBytes<kRankTiles>, 0, [&]<int kStages>(int bytes) {
      allow_memory(kMemory, gradient<T, kRankTiles, kStages>, bytes);
      gradient<T, kRankTiles, kStages><<<grid, kGradientWarps * kWarp, static_cast<size_t>(bytes), stream>>>(a);
    });
  });
  launch_add_up(piece_sums(scratch, pieces.count, width * rank, scale, targets), stream);
  check_launch("lora_gradient");
}

#define SLMI_FOR(T)                                                                                             \
  template void lora_refresh(std::span<const AdapterForms<T>>, Stream);                                         \
  template void copy_rows(const T*, int64_t, int64_t, int64_t, T*, int64_t, Stream);                            \
  template bool lora_fits(int, const T*, int64_t, const AdapterColumns&, int64_t);                              \
  template void lora_project(const T*, int64_t, int64_t, const AdapterColumns&, const T*, int64_t, int64_t, T*, \
                             int64_t, Stream);                                                                  \
  template void lora_gradient(const T*, int64_t, int64_t, const AdapterColumns&, const T*, int64_t, int64_t,    \
                              GradientLayout, float, const AdapterTargets&, float*, Stream);
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
