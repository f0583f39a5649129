// Attention over short segments against the CPU's, with guard words around everything that is written.
#include "slmi/kernels/cuda/attention.h"

#include <gtest/gtest.h>

#include "device_rows.h"
#include "slmi/kernels/cpu/attention.h"

namespace slmi::kernels::cuda {
namespace {

constexpr auto kScalar = cpu::SimdLevel::Scalar;

/// Lengths of segments that follow each other, each with the segment whose tokens it sees first (-1: none).
using Lengths = std::vector<std::pair<int, int64_t>>;
const Lengths kAroundTiles = {{-1, 63},  {-1, 64}, {-1, 65}, {-1, 1}, {3, 200}, {1, 15}, {1, 16}, {1, 17},
                              {-1, 130}, {8, 33},  {8, 32},  {8, 31}, {8, 129}, {2, 1},  {8, 64}, {-1, 256}};
const Lengths kOneToken = {{-1, 1}};
const Lengths kIntents = {{-1, 64}, {0, 30}, {0, 7}, {0, 30}, {0, 41}, {-1, 500}};

struct Case {
  AttentionShape shape;
  Lengths lengths;
};
std::vector<Case> cases() {
  std::vector<Case> out;
  for (const auto& [heads, kv_heads, width] :
       {std::tuple{32, 8, 64}, {9, 3, 64}, {6, 2, 64}, {2, 2, 64}, {8, 1, 64}, {8, 2, 128}}) {
    const AttentionShape shape = {heads, kv_heads, width, 1.0f / std::sqrt(static_cast<float>(width))};
    for (const Lengths& lengths : {kAroundTiles, kOneToken, kIntents}) out.push_back({shape, lengths});
  }
  return out;
}

/// The same segments as both kinds of kernels take them.
struct Segments {
  explicit Segments(const Lengths& lengths) {
    std::vector<std::vector<int64_t>> sharing(lengths.size());
    for (const auto& [before, length] : lengths) {
      const bool shares = before >= 0;
      const auto* prefix = shares ? &segments[static_cast<size_t>(before)] : nullptr;
      segments.push_back({rows, length, shares ? prefix->own_begin : 0, shares ? prefix->own_len : 0, rows, length});
      offsets.push_back(static_cast<int32_t>(rows));
      own_prefix.push_back(static_cast<int32_t>(segments.back().prefix_begin));
      own_prefix.push_back(static_cast<int32_t>(segments.back().prefix_len));
      for (int64_t t = 0; shares && t < length; ++t) sharing[static_cast<size_t>(before)].push_back(rows + t);
      longest = std::max(longest, static_cast<int>(length));
      rows += length;
    }
    offsets.push_back(static_cast<int32_t>(rows));
    for (size_t i = 0; i < sharing.size(); ++i) {
      if (sharing[i].empty()) continue;
      prefix_offsets.push_back(static_cast<int32_t>(prefix_rows.size()));
      sharing_offsets.push_back(static_cast<int32_t>(sharing_rows.size()));
      for (int64_t t = 0; t < segments[i].own_len; ++t) prefix_rows.push_back(segments[i].own_begin + t);
      sharing_rows.insert(sharing_rows.end(), sharing[i].begin(), sharing[i].end());
      longest_prefix = std::max(longest_prefix, static_cast<int>(segments[i].own_len));
    }
    prefixes = static_cast<int>(prefix_offsets.size());
    prefix_offsets.push_back(static_cast<int32_t>(prefix_rows.size()));
    sharing_offsets.push_back(static_cast<int32_t>(sharing_rows.size()));
  }
  int64_t rows = 0;
  int longest = 0, longest_prefix = 0, prefixes = 0;
  std::vector<cpu::AttentionSegment> segments;
  std::vector<int32_t> offsets, own_prefix, prefix_offsets, sharing_offsets;
  std::vector<int64_t> prefix_rows, sharing_rows;
};

/// What the CPU makes of it, in f32.
struct Expected {
  Expected(const Case& c, const Segments& s, const std::vector<float>& q, const std::vector<float>& k,
           const std::vector<float>& v, const std::vector<float>& d_out)
      : out(q.size()), lse(static_cast<size_t>(s.rows * c.shape.num_heads)), dq(q.size()), dk(k.size()), dv(k.size()) {
    const cpu::AttentionShape shape = {c.shape.num_heads, c.shape.num_kv_heads, c.shape.head_dim, c.shape.scale};
    const cpu::AttentionPlan plan(shape, s.segments, 1, cpu::AttentionPasses::ForwardAndBackward);
    std::vector<std::byte> scratch(plan.scratch_bytes());
    const int64_t width = shape.num_heads * shape.head_dim, kv_width = shape.num_kv_heads * shape.head_dim;
    const cpu::KvView<float> kv = {k.data(), v.data(), kv_width};
    cpu::attention_forward<float, float>(plan, {q.data(), width, kv, kv, out.data(), width, lse.data()}, 0,
                                         scratch.data(), kScalar);
    std::vector<float> partials(static_cast<size_t>(plan.partials_size()));
    const cpu::AttentionBackward<float> backward = {
        q.data(),   width,     kv,    out.data(), width,     d_out.data(),   width,
        lse.data(), dq.data(), width, dk.data(),  dv.data(), partials.data()};
    cpu::attention_backward(plan, backward, 0, scratch.data(), kScalar);
    cpu::attention_backward_reduce(plan, backward, 0);
  }
  std::vector<float> out, lse, dq, dk, dv;
};

/// Greatest difference over the greatest value that is wanted, or over 1: gradients of one lonely token are 0.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  float difference = 0.0f, largest = 1.0f;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!(std::fabs(got[i] - want[i]) <= difference)) difference = std::fabs(got[i] - want[i]);  // NaN stays
    largest = std::max(largest, std::fabs(want[i]));
  }
  return static_cast<double>(difference) / static_cast<double>(largest);
}

template <class T>
class CudaAttention : public ::testing::Test {
 protected:
  void SetUp() override { SLMI_REQUIRE_TENSOR_CORES(); }
};
using SixteenBits = ::testing::Types<Bf16, F16>;
TYPED_TEST_SUITE(CudaAttention, SixteenBits);

TYPED_TEST(CudaAttention, ForwardAndBackwardEqualTheCpusAndKeepToTheirRows) {
  using T = TypeParam;
  for (const Case& c : cases()) {
    const Segments s(c.lengths);
    const AttentionShape& shape = c.shape;
    const int64_t width = static_cast<int64_t>(shape.num_heads) * shape.head_dim;
    const int64_t kv_width = static_cast<int64_t>(shape.num_kv_heads) * shape.head_dim;
    const auto q = Rows<T>::random(s.rows, width, width + 8, 61),
               k = Rows<T>::random(s.rows, kv_width, kv_width + 16, 62),
               v = Rows<T>::random(s.rows, kv_width, kv_width + 16, 63),
               d_out = Rows<T>::random(s.rows, width, width + 24, 64);
    ASSERT_TRUE(attention_fits(compute_capability(0), shape, q.data(), q.stride(), k.data(), v.data(), k.stride()));
    const DeviceArray<int32_t> offsets(s.offsets), own_prefix(s.own_prefix), prefix_offsets(s.prefix_offsets),
        sharing_offsets(s.sharing_offsets);
    const DeviceArray<int64_t> prefix_rows(s.prefix_rows), sharing_rows(s.sharing_rows);
    const AttentionSegments segments = {offsets.data(), own_prefix.data(), static_cast<int>(s.segments.size()),
                                        s.longest};
    const AttentionPrefixes prefixes = {prefix_rows.data(),
                                        prefix_offsets.data(),
                                        sharing_rows.data(),
                                        sharing_offsets.data(),
                                        s.prefixes,
                                        s.longest_prefix,
                                        static_cast<int>(s.prefix_rows.size())};
    const AttentionInput<T> in = {q.data(), q.stride(), k.data(), v.data(), k.stride()};

    Rows<T> out(s.rows, width, width + 8), dq(s.rows, width, width + 16), dk(s.rows, kv_width, kv_width + 8),
        dv(s.rows, kv_width, kv_width + 8);
    Rows<float> lse(s.rows, shape.num_heads, shape.num_heads);
    attention_forward(in, shape, segments, out.data(), out.stride(), lse.data(), nullptr);
    const int64_t scratch_size = attention_backward_scratch(s.rows, shape, prefixes);
    Rows<float> scratch(1, scratch_size, scratch_size);
    const AttentionGradient<T> gradient = {d_out.data(), d_out.stride(), out.data(), out.stride(), lse.data(),
                                           dq.data(),    dq.stride(),    dk.data(),  dv.data(),    dk.stride()};
    attention_backward(in, gradient, s.rows, shape, segments, prefixes, scratch.data(), nullptr);

    SCOPED_TRACE(::testing::Message() << shape.num_heads << " heads, " << shape.num_kv_heads << " of keys, "
                                      << shape.head_dim << " wide, " << s.segments.size() << " segments");
    EXPECT_TRUE(out.only_rows_written());
    EXPECT_TRUE(lse.only_rows_written());
    EXPECT_TRUE(dq.only_rows_written());
    EXPECT_TRUE(dk.only_rows_written());
    EXPECT_TRUE(dv.only_rows_written());
    EXPECT_TRUE(scratch.nothing_beside_written());
    const Expected want(c, s, q.values(), k.values(), v.values(), d_out.values());
    const double u = unit_roundoff<T>();
    EXPECT_LT(distance(out.values(), want.out), 2 * u);  // probabilities are rounded too
    EXPECT_LT(distance(lse.values(), want.lse), 1e-5);
    EXPECT_LT(distance(dq.values(), want.dq), 4 * u);  // and their gradients
    EXPECT_LT(distance(dk.values(), want.dk), 4 * u);
    EXPECT_LT(distance(dv.values(), want.dv), 4 * u);
  }
}

TYPED_TEST(CudaAttention, OtherShapesAndLayoutsAreNotTaken) {
  using T = TypeParam;
  const auto* aligned = reinterpret_cast<const T*>(256);
  const AttentionShape shape = {8, 2, 64, 0.125f};
  EXPECT_TRUE(attention_fits(80, shape, aligned, 512, aligned, aligned, 128));
  EXPECT_FALSE(attention_fits(75, shape, aligned, 512, aligned, aligned, 128));
  EXPECT_FALSE(attention_fits(80, {8, 3, 64, 0.125f}, aligned, 512, aligned, aligned, 192));
  EXPECT_FALSE(attention_fits(80, {8, 2, 32, 0.125f}, aligned, 256, aligned, aligned, 64));
  EXPECT_FALSE(attention_fits(80, shape, aligned + 1, 512, aligned, aligned, 128));
  EXPECT_FALSE(attention_fits(80, shape, aligned, 513, aligned, aligned, 128));
  EXPECT_FALSE(attention_fits(80, shape, aligned, 512, aligned + 4, aligned, 128));
  EXPECT_FALSE(attention_fits(80, shape, aligned, 512, aligned, aligned + 4, 128));
}

}  // namespace
}  // namespace slmi::kernels::cuda
