// Attention: every level against an f64 implementation and finite differences; prefixes, parts, guards, decoding.
#include "slmi/kernels/cpu/attention.h"

#include "attention_segments.h"
#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

struct Case {
  std::string name;
  AttentionShape shape;
  std::vector<AttentionSegment> segments;
  int64_t rows;  // of q and of k and v, which are one packed buffer
};

std::vector<Case> cases() {
  std::vector<Case> out;
  const auto add = [&](const std::string& name, const AttentionShape& shape, std::vector<AttentionSegment> segments) {
    int64_t rows = 0;
    for (const auto& s : segments) rows = std::max(rows, s.own_begin + s.own_len);
    out.push_back({name, shape, std::move(segments), rows});
  };
  for (const int64_t n : {1, 2, 3, 15, 16, 17, 63, 64, 65, 129}) {
    add("alone_" + std::to_string(n), shape_of(3, 1, 16), with_prefix(0, {n}));
  }
  for (const int64_t e : {8, 24, 32, 40, 64, 72, 128, 256}) {
    add("head_dim_" + std::to_string(e), shape_of(2, 1, e), with_prefix(5, {19, 7}));
  }
  add("smollm2", shape_of(9, 3, 64), with_prefix(37, {40, 60, 1, 23}));
  add("long_prefix", shape_of(6, 3, 64), with_prefix(150, {30, 66}));
  add("multi_head", shape_of(4, 4, 32), with_prefix(0, {50, 20}));
  add("multi_query", shape_of(8, 1, 32), with_prefix(16, {50, 20}));
  add("two_groups", shape_of(4, 2, 32),
      {{0, 20, 0, 0, 0, 20},
       {20, 9, 0, 20, 20, 9},
       {29, 33, 0, 0, 29, 33},
       {62, 14, 29, 33, 62, 14},
       {76, 5, 0, 20, 76, 5}});
  return out;
}

/// Everything in f64, straight from the definition.
struct Reference {
  std::vector<double> out, lse, dq, dk, dv;
};

Reference reference(const Case& c, const std::vector<double>& q, const std::vector<double>& k,
                    const std::vector<double>& v, const std::vector<double>& d_out) {
  const int64_t h = c.shape.num_heads, hk = c.shape.num_kv_heads, e = c.shape.head_dim, group = h / hk;
  Reference r;
  r.out.resize(static_cast<size_t>(c.rows * h * e));
  r.lse.resize(static_cast<size_t>(c.rows * h));
  r.dq.resize(r.out.size());
  r.dk.resize(static_cast<size_t>(c.rows * hk * e));
  r.dv.resize(r.dk.size());
  const auto at = [](auto& x, int64_t i) -> auto& {
    return x[static_cast<size_t>(i)];
  };
  for (const auto& s : c.segments) {
    for (int64_t i = 0; i < s.q_len; ++i) {
      for (int64_t head = 0; head < h; ++head) {
        const int64_t q0 = (s.q_begin + i) * h * e + head * e, offset = head / group * e;
        std::vector<int64_t> keys;  // offsets into k and v
        for (int64_t j = 0; j < s.prefix_len; ++j) keys.push_back((s.prefix_begin + j) * hk * e + offset);
        for (int64_t j = 0; j <= s.own_len - s.q_len + i; ++j) keys.push_back((s.own_begin + j) * hk * e + offset);
        std::vector<double> p(keys.size());
        double top = -INFINITY, sum = 0.0;
        for (size_t j = 0; j < keys.size(); ++j) {
          double dot = 0.0;
          for (int64_t x = 0; x < e; ++x) dot += at(q, q0 + x) * at(k, keys[j] + x);
          p[j] = dot * static_cast<double>(c.shape.scale);
          top = std::max(top, p[j]);
        }
        for (double& x : p) sum += x = std::exp(x - top);
        at(r.lse, (s.q_begin + i) * h + head) = top + std::log(sum);
        double delta = 0.0;
        std::vector<double> dp(keys.size());
        for (size_t j = 0; j < keys.size(); ++j) {
          p[j] /= sum;
          for (int64_t x = 0; x < e; ++x) {
            at(r.out, q0 + x) += p[j] * at(v, keys[j] + x);
            dp[j] += at(d_out, q0 + x) * at(v, keys[j] + x);
            at(r.dv, keys[j] + x) += p[j] * at(d_out, q0 + x);
          }
          delta += p[j] * dp[j];
        }
        for (size_t j = 0; j < keys.size(); ++j) {
          const double ds = p[j] * (dp[j] - delta) * static_cast<double>(c.shape.scale);
          for (int64_t x = 0; x < e; ++x) {
            at(r.dq, q0 + x) += ds * at(k, keys[j] + x);
            at(r.dk, keys[j] + x) += ds * at(q, q0 + x);
          }
        }
      }
    }
  }
  return r;
}

/// q, k and v side by side in one row, as in training, and the rest.
template <class T>
struct Buffers {
  int64_t q_width, kv_width, stride, out_stride;
  Guarded<T> qkv, d_out, out, dq;
  Guarded<float> lse, dk, dv;
  std::vector<double> q64, k64, v64, d_out64;

  explicit Buffers(const Case& c)
      : q_width(c.shape.num_heads * c.shape.head_dim),
        kv_width(c.shape.num_kv_heads * c.shape.head_dim),
        stride(q_width + 2 * kv_width + 5),
        out_stride(q_width + 3),
        qkv(random_rows<T>(c.rows, q_width + 2 * kv_width, stride, 81)),
        d_out(random_rows<T>(c.rows, q_width, out_stride, 82)),
        out(c.rows * out_stride),
        dq(c.rows * out_stride),
        lse(c.rows * c.shape.num_heads),
        dk(c.rows * kv_width),
        dv(c.rows * kv_width) {
    dk.fill(0.0f);
    dv.fill(0.0f);
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t i = 0; i < q_width; ++i) {
        q64.push_back(static_cast<double>(to_float(qkv[r * stride + i])));
        d_out64.push_back(static_cast<double>(to_float(d_out[r * out_stride + i])));
      }
      for (int64_t i = 0; i < kv_width; ++i) {
        k64.push_back(static_cast<double>(to_float(qkv[r * stride + q_width + i])));
        v64.push_back(static_cast<double>(to_float(qkv[r * stride + q_width + kv_width + i])));
      }
    }
  }
  KvView<T> kv() const { return {qkv.data() + q_width, qkv.data() + q_width + kv_width, stride}; }
};

template <class T>
void run(const Case& c, Buffers<T>& b, int parts, SimdLevel level) {
  const AttentionPlan plan(c.shape, c.segments, parts, AttentionPasses::ForwardAndBackward);
  const AttentionForward<T, T> forward = {b.qkv.data(), b.stride,     b.kv(),      b.kv(),
                                          b.out.data(), b.out_stride, b.lse.data()};
  for (int p = parts - 1; p >= 0; --p) {
    Scratch scratch(plan);
    attention_forward(plan, forward, p, scratch.data(), level);
    ASSERT_TRUE(scratch.intact());
  }
  Guarded<float> partials(plan.partials_size());
  AttentionBackward<T> backward;
  backward.q = b.qkv.data();
  backward.q_stride = b.stride;
  backward.kv = b.kv();
  backward.out = b.out.data();
  backward.out_stride = b.out_stride;
  backward.d_out = b.d_out.data();
  backward.d_out_stride = b.out_stride;
  backward.lse = b.lse.data();
  backward.dq = b.dq.data();
  backward.dq_stride = b.out_stride;
  backward.dk = b.dk.data();
  backward.dv = b.dv.data();
  backward.partials = partials.data();
  for (int p = parts - 1; p >= 0; --p) {
    Scratch scratch(plan);
    attention_backward(plan, backward, p, scratch.data(), level);
    ASSERT_TRUE(scratch.intact());
  }
  for (int p = parts - 1; p >= 0; --p) attention_backward_reduce(plan, backward, p);
  ASSERT_TRUE(partials.guards_intact());
  ASSERT_TRUE(b.dk.guards_intact() && b.dv.guards_intact() && b.lse.guards_intact());
  ASSERT_TRUE(only_rows_written(b.out, b.q_width, b.out_stride));
  ASSERT_TRUE(only_rows_written(b.dq, b.q_width, b.out_stride));
}

/// Worst difference over the greatest magnitude (1 where that is less: one key alone gives gradients of exactly 0).
template <class T>
double error(const Guarded<T>& got, int64_t width, int64_t stride, const std::vector<double>& want) {
  double worst = 0.0, greatest = 1.0;
  for (size_t i = 0; i < want.size(); ++i) {
    const auto n = static_cast<int64_t>(i);
    const auto x = static_cast<double>(to_float(got[n / width * stride + n % width]));
    if (std::isnan(x)) return INFINITY;
    worst = std::max(worst, std::fabs(x - want[i]));
    greatest = std::max(greatest, std::fabs(want[i]));
  }
  return worst / greatest;
}

class AttentionTest : public LevelTest {
 protected:
  template <class T>
  void check(const Case& c, int parts) {
    SCOPED_TRACE(c.name + ", parts " + std::to_string(parts) + (sizeof(T) == 4 ? ", f32" : ", bf16"));
    Buffers<T> b(c);
    run(c, b, parts, GetParam());
    const Reference want = reference(c, b.q64, b.k64, b.v64, b.d_out64);
    // f32 sums of at most some hundred terms; bf16 adds its rounding of the results, and of `out`, which delta is made
    // of.
    const double bound = sizeof(T) == 4 ? 3e-6 : 6e-3;
    EXPECT_LE(error(b.out, b.q_width, b.out_stride, want.out), bound);
    EXPECT_LE(error(b.lse, 1, 1, want.lse), 1e-6);
    EXPECT_LE(error(b.dq, b.q_width, b.out_stride, want.dq), bound);
    EXPECT_LE(error(b.dk, 1, 1, want.dk), bound);
    EXPECT_LE(error(b.dv, 1, 1, want.dv), bound);
  }
};

TEST_P(AttentionTest, EqualsF64) {
  for (const Case& c : cases()) {
    check<float>(c, 1);
    check<float>(c, 3);
    check<Bf16>(c, 2);
  }
}

TEST_P(AttentionTest, BitsOfOutAndDqDoNotDependOnTheParts) {
  for (const Case& c : cases()) {
    if (c.name != "smollm2" && c.name != "long_prefix" && c.name != "alone_129") continue;
    Buffers<float> one(c), many(c), again(c);
    run(c, one, 1, GetParam());
    run(c, many, 5, GetParam());
    run(c, again, 5, GetParam());
    EXPECT_TRUE(equal_bits(many.out, one.out)) << c.name;
    EXPECT_TRUE(equal_bits(many.lse, one.lse)) << c.name;
    EXPECT_TRUE(equal_bits(many.dq, one.dq)) << c.name;
    EXPECT_TRUE(equal_bits(again.dk, many.dk)) << c.name;
    EXPECT_TRUE(equal_bits(again.dv, many.dv)) << c.name;
  }
}

TEST_P(AttentionTest, SharedPrefixEqualsRepeatedPrefix) {
  // Prefix of 21 rows shared by two segments, against two segments that each hold it.
  const int64_t p = 21, n1 = 13, n2 = 30;
  const Case shared{"shared", shape_of(6, 2, 64), with_prefix(p, {n1, n2}), p + n1 + n2};
  const Case repeated{"repeated", shared.shape, with_prefix(0, {p + n1, p + n2}), 2 * p + n1 + n2};
  const auto source = [&](int64_t row) {  // row of `shared` behind a row of `repeated`
    if (row < p + n1) return row;
    return row < 2 * p + n1 ? row - p - n1 : row - p;
  };
  Buffers<float> a(shared), b(repeated);
  for (int64_t r = 0; r < repeated.rows; ++r) {
    std::copy_n(a.qkv.data() + source(r) * a.stride, a.q_width + 2 * a.kv_width, b.qkv.data() + r * b.stride);
    std::copy_n(a.d_out.data() + source(r) * a.out_stride, a.q_width, b.d_out.data() + r * b.out_stride);
  }
  // Each copy of the prefix has half of the prefix's gradient coming in.
  for (int64_t r = 0; r < repeated.rows; ++r) {
    if (source(r) >= p) continue;
    for (int64_t i = 0; i < a.q_width; ++i) b.d_out[r * b.out_stride + i] *= 0.5f;
  }
  run(shared, a, 2, GetParam());
  run(repeated, b, 2, GetParam());
  Guarded<float> dk(a.dk.size()), dv(a.dv.size());
  dk.fill(0.0f);
  dv.fill(0.0f);
  for (int64_t r = 0; r < repeated.rows; ++r) {
    for (int64_t i = 0; i < a.q_width; ++i) {
      ASSERT_NEAR(b.out[r * b.out_stride + i], a.out[source(r) * a.out_stride + i], 2e-6);
    }
    for (int64_t i = 0; i < a.kv_width; ++i) {
      dk[source(r) * a.kv_width + i] += b.dk[r * a.kv_width + i];
      dv[source(r) * a.kv_width + i] += b.dv[r * a.kv_width + i];
    }
  }
  for (int64_t i = 0; i < dk.size(); ++i) {
    ASSERT_NEAR(a.dk[i], dk[i], 4e-6);
    ASSERT_NEAR(a.dv[i], dv[i], 4e-6);
  }
}

TEST_P(AttentionTest, GradientsEqualFiniteDifferences) {
  const Case c{"finite", shape_of(2, 1, 8), with_prefix(4, {5, 6}), 15};
  Buffers<float> b(c);
  run(c, b, 2, GetParam());
  const auto loss = [&](const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v) {
    const Reference r = reference(c, q, k, v, b.d_out64);
    double sum = 0.0;
    for (size_t i = 0; i < r.out.size(); ++i) sum += r.out[i] * b.d_out64[i];
    return sum;
  };
  constexpr double kStep = 1e-5;
  const auto difference = [&](int which, size_t i) {
    double side[2];
    for (int s = 0; s < 2; ++s) {
      auto q = b.q64, k = b.k64, v = b.v64;
      (which == 0 ? q : which == 1 ? k : v)[i] += s == 0 ? kStep : -kStep;
      side[s] = loss(q, k, v);
    }
    return (side[0] - side[1]) / (2 * kStep);
  };
  for (size_t i = 0; i < b.q64.size(); ++i) {
    const auto n = static_cast<int64_t>(i);
    ASSERT_NEAR(b.dq[n / b.q_width * b.out_stride + n % b.q_width], difference(0, i), 3e-6) << i;
  }
  for (size_t i = 0; i < b.k64.size(); ++i) {
    ASSERT_NEAR(b.dk[static_cast<int64_t>(i)], difference(1, i), 3e-6) << i;
    ASSERT_NEAR(b.dv[static_cast<int64_t>(i)], difference(2, i), 3e-6) << i;
  }
}

TEST_P(AttentionTest, GradientOfQInPlace) {
  const Case c = {"in_place", shape_of(6, 3, 64), with_prefix(20, {30, 44}), 94};
  Buffers<float> apart(c), joined(c);
  run(c, apart, 2, GetParam());
  run(c, joined, 2, GetParam());
  joined.dk.fill(0.0f);
  joined.dv.fill(0.0f);
  const AttentionPlan plan(c.shape, c.segments, 2, AttentionPasses::ForwardAndBackward);
  std::vector<float> partials(static_cast<size_t>(plan.partials_size()));
  AttentionBackward<float> args;
  args.q = joined.qkv.data();
  args.q_stride = joined.stride;
  args.kv = joined.kv();
  args.out = joined.out.data();
  args.out_stride = joined.out_stride;
  args.d_out = joined.d_out.data();
  args.d_out_stride = joined.out_stride;
  args.lse = joined.lse.data();
  args.dq = joined.qkv.data();
  args.dq_stride = joined.stride;
  args.dk = joined.dk.data();
  args.dv = joined.dv.data();
  args.partials = partials.data();
  for (int p = 0; p < 2; ++p) {
    Scratch scratch(plan);
    attention_backward(plan, args, p, scratch.data(), GetParam());
  }
  for (int p = 0; p < 2; ++p) attention_backward_reduce(plan, args, p);
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t i = 0; i < apart.q_width; ++i) {
      ASSERT_EQ(joined.qkv[r * joined.stride + i], apart.dq[r * apart.out_stride + i]);
    }
  }
  EXPECT_TRUE(equal_bits(joined.dk, apart.dk));
  EXPECT_TRUE(equal_bits(joined.dv, apart.dv));
}

TEST_P(AttentionTest, GreatScoresStayFinite) {
  const Case c{"great", shape_of(3, 1, 16), with_prefix(8, {70}), 78};
  Buffers<float> b(c);
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t i = 0; i < b.q_width + b.kv_width; ++i) b.qkv[r * b.stride + i] *= 30.0f;  // scores of some thousands
  }
  run(c, b, 2, GetParam());
  for (int64_t i = 0; i < b.dk.size(); ++i) ASSERT_TRUE(std::isfinite(b.dk[i]) && std::isfinite(b.dv[i]));
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t i = 0; i < b.q_width; ++i) ASSERT_TRUE(std::isfinite(b.out[r * b.out_stride + i]));
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, AttentionTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
