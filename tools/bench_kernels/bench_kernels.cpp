// bench_kernels: time of each CPU kernel at SmolLM2-135M's shapes, beside what this machine's memory gives in the same
// minute. Usage: bench_kernels [--filter TEXT] [--threads N] [--level scalar|avx2|avx512]
// [--clock wall|cpu]   (cpu: processor time over threads, for a machine that others use at the same time)
//
// A line a kernel: median and best of the runs in ms, then GB/s (bytes the contract says) or GFLOP/s at the median.
// Buffers are larger than the caches where they are in training; the decode shapes are as decoding has them.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/half.h"
#include "slmi/base/parallel.h"
#include "slmi/base/random.h"
#include "slmi/kernels/cpu/adamw.h"
#include "slmi/kernels/cpu/attention.h"
#include "slmi/kernels/cpu/cross_entropy.h"
#include "slmi/kernels/cpu/dropout.h"
#include "slmi/kernels/cpu/elementwise.h"
#include "slmi/kernels/cpu/gemv.h"
#include "slmi/kernels/cpu/rms_norm.h"
#include "slmi/kernels/cpu/rope.h"
#include "slmi/kernels/cpu/swiglu.h"

namespace slmi::kernels::cpu {
namespace {

// SmolLM2-135M; T tokens a micro-batch, P target rows.
constexpr int64_t kD = 576, kF = 1536, kH = 9, kHK = 3, kE = 64, kV = 49152, kT = 4096, kP = 256;
constexpr int64_t kQkv = (kH + 2 * kHK) * kE;

struct Options {
  std::string filter;
  SimdLevel level = simd().level;
  std::string clock = "wall";
};

double now_seconds(const std::string& clock) {
  if (clock == "cpu") return static_cast<double>(std::clock()) / CLOCKS_PER_SEC / num_threads();
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Work {
  double bytes = 0.0, flops = 0.0;
};

struct Seconds {
  double median, best;
};

Seconds measure(const std::string& clock, const std::function<void()>& body) {
  constexpr int kRuns = 15;
  body();
  std::vector<double> seconds;
  for (int i = 0; i < kRuns; ++i) {
    const double start = now_seconds(clock);
    body();
    seconds.push_back(now_seconds(clock) - start);
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRuns / 2, seconds.end());
  return {seconds[kRuns / 2], *std::min_element(seconds.begin(), seconds.end())};
}

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)) {}
  SimdLevel level() const { return options_.level; }
  void run(const std::string& name, Work work, const std::function<void()>& body) const {
    if (name.find(options_.filter) == std::string::npos) return;
    const Seconds s = measure(options_.clock, body);
    fmt::print("{:<48} {:>8.3f} {:>8.3f} ms", name, s.median * 1e3, s.best * 1e3);
    if (work.bytes > 0) fmt::print("  {:>6.1f} GB/s", work.bytes / s.median * 1e-9);
    if (work.flops > 0) fmt::print("  {:>6.1f} GFLOP/s", work.flops / s.median * 1e-9);
    fmt::print("\n");
  }

 private:
  Options options_;
};

/// body(begin, end) over [0, n) on all threads.
template <class Body>
void each(int64_t n, const Body& body) {
  parallel_for(n, [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

template <class T>
std::vector<T> values(int64_t n, uint64_t seed) {
  std::vector<T> out(static_cast<size_t>(n));
  Random random(seed);
  for (T& x : out) {
    const auto value = static_cast<float>(random.uniform() * 2.0 - 1.0);
    if constexpr (sizeof(T) == 4) {
      x = value;
    } else {
      x.bits = f32_to_bf16(value);
    }
  }
  return out;
}

void probe(const Bench& bench) {
  const int64_t n = int64_t{64} << 20;
  const auto x = values<float>(n / 4, 1);
  std::vector<double> sums(static_cast<size_t>(num_sum_blocks(n / 4)));
  bench.run("probe: read 64 MB (sum_of_squares)", {.bytes = static_cast<double>(n)}, [&] {
    each(num_sum_blocks(n / 4),
         [&](int64_t b, int64_t e) { sum_of_squares(x.data(), n / 4, sums.data(), b, e, bench.level()); });
  });
}

template <class T>
void rows(const Bench& bench, const std::string& type) {
  constexpr double kSize = sizeof(T);
  const auto x = values<float>(kT * kD, 1), weight = values<float>(kD, 2);
  const auto y = values<T>(kT * kD, 3);
  std::vector<T> out(static_cast<size_t>(kT * kD));
  std::vector<float> rstd(static_cast<size_t>(kT)), hidden(static_cast<size_t>(kT * kD));
  const SimdLevel level = bench.level();
  bench.run("rms_norm_forward " + type, {.bytes = kT * kD * (4 + kSize)}, [&] {
    each(kT, [&](int64_t b, int64_t e) {
      rms_norm_forward(x.data(), weight.data(), 1e-5f, kD, out.data(), kD, rstd.data(), b, e, level);
    });
  });
  bench.run("rms_norm_backward " + type, {.bytes = kT * kD * (12 + kSize)}, [&] {
    each(kT, [&](int64_t b, int64_t e) {
      rms_norm_backward(y.data(), kD, x.data(), weight.data(), rstd.data(), kD, hidden.data(), b, e, level);
    });
  });
  bench.run("add_rms_norm_forward " + type, {.bytes = kT * kD * (8 + 2 * kSize)}, [&] {
    each(kT, [&](int64_t b, int64_t e) {
      add_rms_norm_forward(x.data(), y.data(), kD, weight.data(), 1e-5f, kD, hidden.data(), out.data(), kD, rstd.data(),
                           b, e, level);
    });
  });
  const auto keys = std::vector<uint64_t>(static_cast<size_t>(kT), 7);
  std::vector<int32_t> positions(static_cast<size_t>(kT));
  for (int64_t t = 0; t < kT; ++t) positions[static_cast<size_t>(t)] = static_cast<int32_t>(t % 512);
  const DropoutKey key = {.seed = 1, .step = 2, .site = 3, .probability = 0.05};
  bench.run("dropout " + type, {.bytes = kT * kD * 2 * kSize}, [&] {
    each(kT, [&](int64_t b, int64_t e) {
      apply_dropout(y.data(), kD, key, keys.data(), positions.data(), kD, out.data(), kD, b, e, level);
    });
  });
  const auto cos = values<float>(512 * kE / 2, 4), sin = values<float>(512 * kE / 2, 5);
  auto qkv = values<T>(kT * kQkv, 6);
  bench.run("rope (q and k) " + type, {.bytes = kT * (kH + kHK) * kE * 2 * kSize}, [&] {
    each(kT, [&](int64_t b, int64_t e) {
      rope_apply(qkv.data(), kQkv, kH + kHK, kE, cos.data(), sin.data(), positions.data(), RopeDirection::Forward, b, e,
                 level);
    });
  });
}

template <class T>
void wide_rows(const Bench& bench, const std::string& type) {
  constexpr double kSize = sizeof(T);
  const SimdLevel level = bench.level();
  const auto gate_up = values<T>(kT * 2 * kF, 1), d = values<T>(kT * kF, 2);
  std::vector<T> out(static_cast<size_t>(kT * kF)), d_gate_up(static_cast<size_t>(kT * 2 * kF));
  bench.run("swiglu_forward " + type, {.bytes = kT * kF * 3 * kSize}, [&] {
    each(kT, [&](int64_t b, int64_t e) { swiglu_forward(gate_up.data(), 2 * kF, kF, out.data(), kF, b, e, level); });
  });
  bench.run("swiglu_backward " + type, {.bytes = kT * kF * 5 * kSize}, [&] {
    each(kT, [&](int64_t b, int64_t e) {
      swiglu_backward(gate_up.data(), 2 * kF, d.data(), kF, kF, d_gate_up.data(), 2 * kF, static_cast<T*>(nullptr), 0,
                      b, e, level);
    });
  });
  auto logits = values<T>(kP * kV, 3);
  const std::vector<int32_t> targets(static_cast<size_t>(kP), 77);
  std::vector<float> loss(static_cast<size_t>(kP));
  bench.run("cross_entropy_loss " + type, {.bytes = kP * kV * kSize}, [&] {
    each(kP, [&](int64_t b, int64_t e) {
      cross_entropy_loss(logits.data(), kV, kV, targets.data(), loss.data(), static_cast<float*>(nullptr), b, e, level);
    });
  });
  bench.run("cross_entropy_gradient " + type, {.bytes = kP * kV * 2 * kSize}, [&] {
    each(kP, [&](int64_t b, int64_t e) {
      cross_entropy_gradient(logits.data(), kV, kV, targets.data(), 1.0f, loss.data(), static_cast<float*>(nullptr), b,
                             e, level);
    });
  });
  bench.run("pick, one row " + type, {.bytes = kV * kSize}, [&] { pick(logits.data(), kV, nullptr, level); });
}

void optimizer(const Bench& bench) {
  const int64_t n = 4884480;  // r = 16 on seven projections of 30 layers
  auto p = values<float>(n, 1), g = values<float>(n, 2), m = values<float>(n, 3);
  std::vector<float> v(p.size(), 0.5f);
  bench.run("adamw_step f32, 4.88 M values", {.bytes = static_cast<double>(n) * 28}, [&] {
    each(n, [&](int64_t b, int64_t e) {
      adamw_step(p.data(), g.data(), m.data(), v.data(), AdamWStep{.learning_rate = 1e-6}, b, e, bench.level());
    });
  });
  std::vector<Bf16> narrow(p.size());
  bench.run("convert_rows f32 -> bf16", {.bytes = static_cast<double>(n) * 6}, [&] {
    each(n / kD, [&](int64_t b, int64_t e) { convert_rows(p.data(), kD, narrow.data(), kD, kD, b, e, bench.level()); });
  });
  bench.run("transpose_rows f32 -> bf16", {.bytes = static_cast<double>(n) * 6}, [&] {
    each(n / kD, [&](int64_t b, int64_t e) {
      transpose_rows(p.data(), kD, 1.0f, narrow.data(), n / kD, kD, b, e, bench.level());
    });
  });
}

template <class W>
void decode_products(const Bench& bench, const std::string& type) {
  const auto w = values<W>(kV * kD, 1);
  const auto x = values<float>(kMaxGemvRows * kD, 2);
  std::vector<float> y(static_cast<size_t>(kMaxGemvRows * kV));
  for (const int64_t m : {1, 2, 4, 8}) {
    bench.run(fmt::format("gemv 49152x576, {} rows, w {}", m, type),
              {.bytes = static_cast<double>(kV * kD) * sizeof(W), .flops = 2.0 * static_cast<double>(m * kV * kD)},
              [&] {
                each(kV, [&](int64_t b, int64_t e) {
                  gemv(x.data(), kD, m, w.data(), kD, kD, y.data(), kV, b, e, bench.level());
                });
              });
  }
}

/// `count` rows of `own` tokens behind one prefix, which is a segment itself.
std::vector<AttentionSegment> packed(int64_t prefix, int64_t count, int64_t own) {
  std::vector<AttentionSegment> out;
  if (prefix > 0) out.push_back({0, prefix, 0, 0, 0, prefix});
  for (int64_t i = 0; i < count; ++i) out.push_back({prefix + i * own, own, 0, prefix, prefix + i * own, own});
  return out;
}

/// Multiply-adds of q k^T alone, times two, over what the mask lets through.
double score_flops(const std::vector<AttentionSegment>& segments) {
  double pairs = 0.0;
  for (const auto& s : segments) {
    const double n = static_cast<double>(s.q_len);
    pairs += n * static_cast<double>(s.prefix_len + s.own_len - s.q_len) + n * (n + 1) / 2;
  }
  return 2.0 * pairs * static_cast<double>(kH * kE);
}

template <class T>
void attention(const Bench& bench, const std::string& type, const std::string& what,
               const std::vector<AttentionSegment>& segments) {
  const AttentionShape shape = {kH, kHK, kE, 0.125f};
  int64_t tokens = 0;
  for (const auto& s : segments) tokens = std::max(tokens, s.q_begin + s.q_len);
  const auto qkv = values<T>(tokens * kQkv, 1), d_out = values<T>(tokens * kH * kE, 2);
  std::vector<T> out(d_out.size()), dq(d_out.size());
  std::vector<float> lse(static_cast<size_t>(tokens * kH)), dk(static_cast<size_t>(tokens * kHK * kE)), dv(dk.size());
  const AttentionPlan plan(shape, segments, num_threads(), AttentionPasses::ForwardAndBackward);
  std::vector<std::vector<std::byte>> scratch(static_cast<size_t>(num_threads()),
                                              std::vector<std::byte>(plan.scratch_bytes()));
  std::vector<float> partials(static_cast<size_t>(plan.partials_size()));
  const KvView<T> kv = {qkv.data() + kH * kE, qkv.data() + (kH + kHK) * kE, kQkv};
  const AttentionForward<T, T> forward = {qkv.data(), kQkv, kv, kv, out.data(), kH * kE, lse.data()};
  const AttentionBackward<T> backward = {qkv.data(), kQkv,      kv,      out.data(), kH * kE,   d_out.data(),   kH * kE,
                                         lse.data(), dq.data(), kH * kE, dk.data(),  dv.data(), partials.data()};
  const auto parts = [&](const auto& body) {
    each(plan.num_parts(), [&](int64_t b, int64_t e) {
      for (int64_t p = b; p < e; ++p) body(static_cast<int>(p), scratch[static_cast<size_t>(p)].data());
    });
  };
  const double unit = score_flops(segments);
  bench.run(fmt::format("attention_forward {} {}", type, what), {.flops = 2 * unit},
            [&] { parts([&](int p, std::byte* s) { attention_forward(plan, forward, p, s, bench.level()); }); });
  bench.run(fmt::format("attention_backward {} {}", type, what), {.flops = 5 * unit}, [&] {
    parts([&](int p, std::byte* s) { attention_backward(plan, backward, p, s, bench.level()); });
    parts([&](int p, std::byte*) { attention_backward_reduce(plan, backward, p); });
  });
}

template <class KV>
void decode_attention(const Bench& bench, const std::string& type, int64_t batch) {
  const int64_t capacity = 256, length = 150, prefix = 200;
  const auto cache = values<KV>(batch * capacity * 2 * kHK * kE, 1), shared = values<KV>(prefix * 2 * kHK * kE, 2);
  const auto q = values<float>(batch * kH * kE, 3);
  std::vector<float> out(q.size());
  std::vector<AttentionSegment> segments;
  for (int64_t i = 0; i < batch; ++i) segments.push_back({i, 1, 0, prefix, i * capacity, length});
  const AttentionPlan plan({kH, kHK, kE, 0.125f}, segments, num_threads(), AttentionPasses::ForwardOnly);
  std::vector<std::vector<std::byte>> scratch(static_cast<size_t>(num_threads()),
                                              std::vector<std::byte>(plan.scratch_bytes()));
  const int64_t stride = 2 * kHK * kE;
  const AttentionForward<float, KV> args = {q.data(),
                                            kH * kE,
                                            {shared.data(), shared.data() + kHK * kE, stride},
                                            {cache.data(), cache.data() + kHK * kE, stride},
                                            out.data(),
                                            kH * kE,
                                            nullptr};
  const double keys = static_cast<double>(batch * (prefix + length));
  bench.run(fmt::format("attention decode, {} rows of 200 + 150, cache {}", batch, type),
            {.bytes = keys * 2 * kHK * kE * sizeof(KV), .flops = keys * 4 * kH * kE}, [&] {
              each(plan.num_parts(), [&](int64_t b, int64_t e) {
                for (int64_t p = b; p < e; ++p) {
                  attention_forward(plan, args, static_cast<int>(p), scratch[static_cast<size_t>(p)].data(),
                                    bench.level());
                }
              });
            });
}

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--filter") options.filter = argv[i + 1];
    if (flag == "--threads") set_num_threads(std::stoi(argv[i + 1]));
    if (flag == "--clock") options.clock = argv[i + 1];
    if (flag == "--level") options.level = parse_simd(argv[i + 1]).level;
  }
  const Bench bench(options);
  fmt::print("simd {}, {} threads, T = {}\n", name(simd()), num_threads(), kT);
  probe(bench);
  rows<float>(bench, "f32");
  rows<Bf16>(bench, "bf16");
  wide_rows<float>(bench, "f32");
  wide_rows<Bf16>(bench, "bf16");
  optimizer(bench);
  decode_products<float>(bench, "f32");
  decode_products<Bf16>(bench, "bf16");
  for (const auto& [what, segments] :
       {std::pair{"64 x 60", packed(0, 64, 60)}, std::pair{"200 + 64 x 60", packed(200, 64, 60)},
        std::pair{"32 + 8 x 60", packed(32, 8, 60)}, std::pair{"1 x 2048", packed(0, 1, 2048)}}) {
    attention<float>(bench, "f32", what, segments);
    attention<Bf16>(bench, "bf16", what, segments);
  }
  for (const int64_t batch : {1, 8, 64}) {
    decode_attention<float>(bench, "f32", batch);
    decode_attention<Bf16>(bench, "bf16", batch);
  }
  return 0;
}

}  // namespace
}  // namespace slmi::kernels::cpu

int main(int argc, char** argv) {
  return slmi::kernels::cpu::run(argc, argv);
}
