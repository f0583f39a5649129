// SwiGLU's gradient with that of the A of an adapter that takes the activation: the activation exists in shared memory
// alone, as tiles of 16 rows.
#include <algorithm>

#include "launch.h"
#include "lora_tiles.cuh"
#include "slmi/kernels/cuda/swiglu.h"
#include "swiglu_math.cuh"

namespace slmi::kernels::cuda {
namespace {

using namespace detail;

constexpr int kWarps = 4, kRows = kStep, kTile = kRows * kTileColumns * 2, kPipeline = 2;
constexpr int kMostRank = 2 * kStep;

template <class T>
struct Backward {
  const T* gate_up;
  int64_t gate_up_stride;
  const T* d_out;
  int64_t d_out_stride, rows, ffn_width;
  T* d_gate_up;
  int64_t d_gate_up_stride;
  const T* q;
  int64_t q_stride, rows_a_piece;
  float* parts;  // [pieces][rank][F]
};

/// Of a warp: gate, up, d_out, and q.
template <int kRankTiles>
constexpr int kStageBytes = 3 * kTile + kRows* kQRowBytes<kRankTiles>;

/// A warp: 64 columns, a piece of the rows.
template <class T, int kRankTiles>
__global__ void __launch_bounds__(kWarps* kWarp, 4) backward(Backward<T> a) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr int kBytes = kStageBytes<kRankTiles>;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t column0 = (static_cast<int64_t>(blockIdx.x) * kWarps + warp) * kTileColumns;
  if (column0 >= a.ffn_width) return;
  const int64_t row_begin = blockIdx.y * a.rows_a_piece, row_end = min(a.rows, row_begin + a.rows_a_piece);
  const int steps = static_cast<int>((row_end - row_begin + kRows - 1) / kRows);
  unsigned char* own = memory + warp * kPipeline * kBytes;
  const uint32_t stages = shared_address(own);
  const auto fetch = [&](int s) {
    if (s < steps) {
      const uint32_t stage = stages + static_cast<uint32_t>(s % kPipeline * kBytes);
      const int64_t row0 = row_begin + static_cast<int64_t>(s) * kRows;
      fetch_tile<kRows>(stage, a.gate_up, a.gate_up_stride, row0, row_end, column0, lane);
      fetch_tile<kRows>(stage + kTile, a.gate_up, a.gate_up_stride, row0, row_end, a.ffn_width + column0, lane);
      fetch_tile<kRows>(stage + 2 * kTile, a.d_out, a.d_out_stride, row0, row_end, column0, lane);
      constexpr int kQChunks = kRankTiles * kStep / kChunk;
#pragma unroll
      for (int i = 0; i < kRows * kQChunks / kWarp; ++i) {
        const int id = i * kWarp + lane, row = id / kQChunks, chunk = id % kQChunks;
        const bool there = row0 + row < row_end;
        copy_async(stage + 3 * kTile + static_cast<uint32_t>(row * kQRowBytes<kRankTiles> + chunk * 16),
                   there ? a.q + (row0 + row) * a.q_stride + chunk * kChunk : a.q, there);
      }
    }
    commit_copies();
  };
  float sums[kRankTiles][kColumnTiles][4] = {};
  for (int s = 0; s < kPipeline - 1; ++s) fetch(s);
  for (int s = 0; s < steps; ++s) {
    fetch(s + kPipeline - 1);  // into the stage that all lanes are done with
    wait_copies<kPipeline - 1>();
    __syncwarp();
    unsigned char* stage = own + s % kPipeline * kBytes;
    const uint32_t gate_tile = stages + static_cast<uint32_t>(s % kPipeline * kBytes), q_tile = gate_tile + 3 * kTile;
#pragma unroll
    for (int i = 0; i < kRows * kChunksARow / kWarp; ++i) {
      const int id = i * kWarp + lane, row = id / kChunksARow, chunk = id % kChunksARow;
      auto* values = reinterpret_cast<T*>(stage + tile_offset(row, chunk));
      constexpr int kNext = kTile / static_cast<int>(sizeof(T));
      const auto gradient =
          swiglu_gradient(load<kChunk>(values), load<kChunk>(values + kNext), load<kChunk>(values + 2 * kNext));
      store<kChunk>(values, gradient.activation);
      const int64_t t = row_begin + static_cast<int64_t>(s) * kRows + row;
      if (t >= row_end) continue;
      T* d_row = a.d_gate_up + t * a.d_gate_up_stride + column0 + chunk * kChunk;
      store<kChunk>(d_row, gradient.gate);
      store<kChunk>(d_row + a.ffn_width, gradient.up);
    }
    __syncwarp();
    add_products<kRows, T>(sums, q_tile, gate_tile, lane);
    __syncwarp();  // before the next copies into this stage
  }
  float* part = a.parts + blockIdx.y * a.ffn_width * (kRankTiles * kStep);
#pragma unroll
  for (int m = 0; m < kRankTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t r = m * kStep + lane / 4 + 8 * half, c = column0 + n * 8 + lane % 4 * 2;
        store<2>(part + r * a.ffn_width + c, Pack<float, 2>{sums[m][n][2 * half], sums[m][n][2 * half + 1]});
      }
    }
  }
}

RowPieces pieces_of(int64_t rows, int64_t ffn_width) {
  constexpr int64_t kBlocks = 512;  // four on each multiprocessor of an H100
  return cut_rows(rows, kRows, ceil_div(ffn_width, kWarps * kTileColumns), kBlocks);
}

}  // namespace

template <class T>
bool swiglu_lora_fits(int compute_capability, const T* gate_up, int64_t gate_up_stride, int64_t ffn_width,
                      int64_t rank) {
  return rank <= kMostRank && lora_fits(compute_capability, gate_up, gate_up_stride, {1, {0, ffn_width}}, rank);
}

int64_t swiglu_lora_scratch(int64_t rows, int64_t ffn_width, int64_t rank) {
  return rows == 0 ? 0 : pieces_of(rows, ffn_width).count * ffn_width * rank;
}

template <class T>
void swiglu_lora_backward(const T* gate_up, int64_t gate_up_stride, const T* d_out, int64_t d_out_stride, int64_t rows,
                          int64_t ffn_width, T* d_gate_up, int64_t d_gate_up_stride, const T* q, int64_t q_stride,
                          int64_t rank, float* target, float* scratch, Stream stream) {
  if (rows == 0) return;
  const RowPieces pieces = pieces_of(rows, ffn_width);
  const Backward<T> a = {gate_up,   gate_up_stride,   d_out, d_out_stride, rows,        ffn_width,
                         d_gate_up, d_gate_up_stride, q,     q_stride,     pieces.rows, scratch};
  const auto run = [&]<int kRankTiles>() {
    constexpr int kBytes = kWarps * kPipeline * kStageBytes<kRankTiles>;
    allow_memory("shared memory of SwiGLU's gradient", backward<T, kRankTiles>, kBytes);
    const dim3 grid(static_cast<unsigned>(ceil_div(ffn_width, kWarps * kTileColumns)),
                    static_cast<unsigned>(pieces.count));
    backward<T, kRankTiles><<<grid, kWarps * kWarp, kBytes, stream>>>(a);
  };
  rank == kStep ? run.template operator()<1>() : run.template operator()<2>();
  launch_add_up(piece_sums(scratch, pieces.count, ffn_width * rank, 1.0f, {{target}, {ffn_width * rank}}), stream);
  check_launch("swiglu_lora_backward");
}

#define SLMI_FOR(T)                                                                                                 \
  template bool swiglu_lora_fits(int, const T*, int64_t, int64_t, int64_t);                                         \
  template void swiglu_lora_backward(const T*, int64_t, const T*, int64_t, int64_t, int64_t, T*, int64_t, const T*, \
                                     int64_t, int64_t, float*, float*, Stream);
SLMI_FOR(Bf16)
SLMI_FOR(F16)
#undef SLMI_FOR

}  // namespace slmi::kernels::cuda
