// Attention of new tokens over key/value caches, against f64.
#include "attention_segments.h"
#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

class AttentionDecodeTest : public LevelTest {};

/// One new token a segment over caches, prefix and own ones apart, of another type than q.
template <class T, class KV>
void check_decoding(SimdLevel level) {
  const AttentionShape shape = shape_of(9, 3, 64);
  const int64_t capacity = 150, width = 3 * 64, stride = width + 1;
  const std::vector<int64_t> lengths = {1, 63, 64, 65, 150};
  const int64_t prefix_len = 70, rows = static_cast<int64_t>(lengths.size()) * capacity;
  const auto prefix = random_rows<KV>(prefix_len, 2 * width, 2 * stride, 91);
  const auto own = random_rows<KV>(rows, 2 * width, 2 * stride, 92);
  const auto n = static_cast<int64_t>(lengths.size());
  for (const int64_t q_len : {1, 2, 5}) {
    const auto q = random_rows<T>(n * q_len, 9 * 64, 9 * 64, 93);
    Guarded<T> out(q.size());
    std::vector<AttentionSegment> segments;
    for (int64_t s = 0; s < n; ++s) {
      const int64_t len = std::max(lengths[static_cast<size_t>(s)], q_len);
      segments.push_back({s * q_len, q_len, 0, s == 1 ? 0 : prefix_len, s * capacity, len});
    }
    const AttentionPlan plan(shape, segments, 2, AttentionPasses::ForwardOnly);
    AttentionForward<T, KV> args;
    args.q = q.data();
    args.q_stride = 9 * 64;
    args.prefix = {prefix.data(), prefix.data() + width, 2 * stride};
    args.own = {own.data(), own.data() + width, 2 * stride};
    args.out = out.data();
    args.out_stride = 9 * 64;
    for (int p = 0; p < 2; ++p) {
      Scratch scratch(plan);
      attention_forward(plan, args, p, scratch.data(), level);
      ASSERT_TRUE(scratch.intact());
    }
    ASSERT_TRUE(only_rows_written(out, 9 * 64, 9 * 64));
    for (const auto& s : segments) {
      for (int64_t i = 0; i < s.q_len; ++i) {
        for (int64_t h = 0; h < 9; ++h) {
          const int64_t keys = s.prefix_len + s.own_len - s.q_len + i + 1;
          const auto row = [&](int64_t j) {
            return (j < s.prefix_len ? prefix.data() + j * 2 * stride
                                     : own.data() + (s.own_begin + j - s.prefix_len) * 2 * stride) +
                   h / 3 * 64;
          };
          std::vector<double> o(64, 0.0);
          double sum = 0.0;
          for (int64_t j = 0; j < keys; ++j) {
            double dot = 0.0;
            for (int64_t x = 0; x < 64; ++x) {
              dot += static_cast<double>(to_float(q[(s.q_begin + i) * 9 * 64 + h * 64 + x])) *
                     static_cast<double>(to_float(row(j)[x]));
            }
            const double p = std::exp(dot * static_cast<double>(shape.scale));
            sum += p;
            for (int64_t x = 0; x < 64; ++x)
              o[static_cast<size_t>(x)] += p * static_cast<double>(to_float(row(j)[width + x]));
          }
          for (int64_t x = 0; x < 64; ++x) {
            const double want = o[static_cast<size_t>(x)] / sum;
            ASSERT_NEAR(to_float(out[(s.q_begin + i) * 9 * 64 + h * 64 + x]), want,
                        2e-6 + unit_roundoff<T>() * std::fabs(want));
          }
        }
      }
    }
  }
}

TEST_P(AttentionDecodeTest, DecodesOverCachesOfEitherType) {
  check_decoding<float, float>(GetParam());
  check_decoding<float, Bf16>(GetParam());
  check_decoding<Bf16, float>(GetParam());
  check_decoding<Bf16, Bf16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Levels, AttentionDecodeTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
