// LoRA's thin products against sums in f64, and the copies around them.
#include "slmi/kernels/cuda/lora.h"

#include <gtest/gtest.h>

#include <deque>

#include "device_rows.h"
#include "slmi/kernels/cuda/swiglu.h"

namespace slmi::kernels::cuda {
namespace {

template <class T>
class CudaLora : public ::testing::Test {
 protected:
  struct Shape {
    int64_t rows, rank;
    AdapterColumns columns;
  };
  static std::vector<Shape> shapes() {
    std::vector<Shape> out;
    for (const int64_t rows : {1, 31, 32, 33, 127, 500})
      for (const int64_t width : {64, 192, 576, 2048}) out.push_back({rows, 16, {1, {0, width}}});
    for (const int64_t rank : {32, 48, 64}) out.push_back({75, rank, {1, {0, 1536}}});
    for (const int64_t rank : {16, 48}) out.push_back({75, rank, {3, {0, 576, 768, 960}}});
    out.push_back({4100, 16, {2, {0, 8192, 16384}}});
    return out;
  }
  void SetUp() override { SLMI_REQUIRE_TENSOR_CORES(); }
};
using SixteenBits = ::testing::Types<Bf16, F16>;
TYPED_TEST_SUITE(CudaLora, SixteenBits);

/// Sums of products and of their magnitudes, in f64, with the bound of a sum in f32 over `depth` terms.
struct Exact {
  double sum = 0, magnitude = 0;
  void add(float a, float b) {
    const double x = static_cast<double>(a) * static_cast<double>(b);
    sum += x;
    magnitude += std::fabs(x);
  }
  double bound(int64_t depth, double unit) const {
    return unit * std::fabs(sum) + static_cast<double>(depth) * 0x1p-23 * magnitude + 1e-30;
  }
};

/// One adapter's gradient after the other.
AdapterTargets targets_in(float* gradients, const AdapterColumns& columns, int64_t rank) {
  AdapterTargets out;
  for (int i = 0; i < columns.count; ++i) {
    out.data[i] = gradients + columns.begin[i] * rank;
    out.size[i] = (columns.begin[i + 1] - columns.begin[i]) * rank;
  }
  return out;
}

TYPED_TEST(CudaLora, ProjectionsAreTheSumsOfEachAdaptersColumns) {
  using T = TypeParam;
  for (const auto& s : this->shapes()) {
    const int64_t width = s.columns.begin[s.columns.count], stride = width + 16, p_stride = width + 2;
    const auto x = Rows<T>::random(s.rows, width, stride, 21), p = Rows<T>::random(s.rank, width, p_stride, 22, 0.05);
    ASSERT_TRUE(lora_fits(compute_capability(0), x.data(), stride, s.columns, s.rank));
    const int64_t out_width = s.columns.count * s.rank;
    Rows<T> out(s.rows, out_width, out_width + 8);
    lora_project(x.data(), stride, s.rows, s.columns, p.data(), p_stride, s.rank, out.data(), out.stride(), nullptr);
    ASSERT_TRUE(out.only_rows_written());
    const auto got = out.values(), xs = x.values(), ps = p.values();
    const int64_t step = s.rows > 1000 ? 97 : 1;
    for (int64_t t = 0; t < s.rows; t += step) {
      for (int64_t o = 0; o < out_width; ++o) {
        const int64_t adapter = o / s.rank, begin = s.columns.begin[adapter], end = s.columns.begin[adapter + 1];
        Exact want;
        for (int64_t c = begin; c < end; ++c)
          want.add(xs[static_cast<size_t>(t * width + c)], ps[static_cast<size_t>(o % s.rank * width + c)]);
        ASSERT_NEAR(got[static_cast<size_t>(t * out_width + o)], want.sum, want.bound(end - begin, unit_roundoff<T>()))
            << "row " << t << " of " << s.rows << ", " << o << " of " << out_width << ", columns " << width;
      }
    }
  }
}

TYPED_TEST(CudaLora, GradientsAreAddedInBothLayoutsAndRepeatTheirBits) {
  using T = TypeParam;
  for (const auto& s : this->shapes()) {
    for (const auto layout : {GradientLayout::RankFirst, GradientLayout::ColumnsFirst}) {
      if (layout == GradientLayout::RankFirst && s.columns.count > 1) continue;  // of A: one input, all adapters' rows
      const int64_t width = s.columns.begin[s.columns.count], stride = width + 8;
      const int64_t q_width = s.columns.count * s.rank, q_stride = q_width + 8;
      const auto x = Rows<T>::random(s.rows, width, stride, 23), q = Rows<T>::random(s.rows, q_width, q_stride, 24);
      const auto run = [&] {
        auto gradient = Rows<float>::random(1, width * s.rank, width * s.rank, 25);
        const AdapterTargets targets = targets_in(gradient.data(), s.columns, s.rank);
        const int64_t scratch_size = lora_gradient_scratch(s.rows, s.columns, s.rank);
        const Rows<float> scratch(1, scratch_size, scratch_size);
        lora_gradient(x.data(), stride, s.rows, s.columns, q.data(), q_stride, s.rank, layout, 0.5f, targets,
                      scratch.data(), nullptr);
        EXPECT_TRUE(gradient.only_rows_written());
        EXPECT_TRUE(scratch.nothing_beside_written());
        return gradient.values();
      };
      const auto before = Rows<float>::random(1, width * s.rank, width * s.rank, 25).values(), got = run();
      const auto xs = x.values(), qs = q.values();
      const int64_t step = s.rows > 1000 ? 61 : 1;
      for (int64_t c = 0; c < width; c += step) {
        int64_t adapter = 0;
        while (c >= s.columns.begin[adapter + 1]) ++adapter;
        for (int64_t r = 0; r < s.rank; ++r) {
          Exact want;
          for (int64_t t = 0; t < s.rows; ++t)
            want.add(xs[static_cast<size_t>(t * width + c)],
                     qs[static_cast<size_t>(t * q_width + adapter * s.rank + r)]);
          const auto at = static_cast<size_t>(layout == GradientLayout::RankFirst ? r * width + c : c * s.rank + r);
          const double sum = static_cast<double>(before[at]) + 0.5 * want.sum;
          ASSERT_NEAR(got[at], sum, want.bound(s.rows, 0) + 0x1p-23 * std::fabs(sum))
              << "column " << c << " of " << width << ", rank " << r << ", rows " << s.rows;
        }
      }
      EXPECT_EQ(run(), got);
    }
  }
}

TYPED_TEST(CudaLora, OnePassHasTheGradientsOfBothSides) {
  using T = TypeParam;
  auto shapes = this->shapes();
  shapes.push_back({300, 32, {2, {0, 576, 1152}}});
  shapes.push_back({1000, 16, {3, {0, 2048, 2560, 3072}}});
  for (const auto& s : shapes) {
    const int64_t width = s.columns.begin[s.columns.count], stride = width + 16, p_stride = width + 2;
    const int64_t u_width = s.columns.count * s.rank, u_stride = u_width + 8;
    const auto dy = Rows<T>::random(s.rows, width, stride, 61), p = Rows<T>::random(s.rank, width, p_stride, 62, 0.05),
               u = Rows<T>::random(s.rows, u_width, u_stride, 63);
    const auto before = Rows<float>::random(1, width * s.rank, width * s.rank, 64).values();
    const auto run = [&] {
      auto gradient = Rows<float>::random(1, width * s.rank, width * s.rank, 64);
      Rows<T> du(s.rows, u_width, u_width + 8);
      const AdapterTargets targets = targets_in(gradient.data(), s.columns, s.rank);
      const int64_t scratch_size = lora_update_gradients_scratch(s.rows, s.columns, s.rank);
      const Rows<float> scratch(1, scratch_size, scratch_size);
      lora_update_gradients(dy.data(), stride, s.rows, s.columns, p.data(), p_stride, u.data(), u_stride, s.rank,
                            du.data(), du.stride(), 0.5f, targets, scratch.data(), nullptr);
      EXPECT_TRUE(gradient.only_rows_written());
      EXPECT_TRUE(du.only_rows_written());
      EXPECT_TRUE(scratch.nothing_beside_written());
      return std::pair(du.values(), gradient.values());
    };
    const auto got = run();
    const auto ys = dy.values(), ps = p.values(), us = u.values();
    const int64_t row_step = s.rows > 1000 ? 97 : 1, column_step = s.rows > 500 ? 61 : 1;
    for (int64_t t = 0; t < s.rows; t += row_step) {
      for (int64_t o = 0; o < u_width; ++o) {
        const int64_t adapter = o / s.rank, begin = s.columns.begin[adapter], end = s.columns.begin[adapter + 1];
        Exact want;
        for (int64_t c = begin; c < end; ++c)
          want.add(ys[static_cast<size_t>(t * width + c)], ps[static_cast<size_t>(o % s.rank * width + c)]);
        ASSERT_NEAR(got.first[static_cast<size_t>(t * u_width + o)], want.sum,
                    want.bound(end - begin, unit_roundoff<T>()))
            << "row " << t << " of " << s.rows << ", " << o << " of " << u_width << ", columns " << width;
      }
    }
    for (int64_t c = 0; c < width; c += column_step) {
      int64_t adapter = 0;
      while (c >= s.columns.begin[adapter + 1]) ++adapter;
      for (int64_t r = 0; r < s.rank; ++r) {
        Exact want;
        for (int64_t t = 0; t < s.rows; ++t)
          want.add(ys[static_cast<size_t>(t * width + c)], us[static_cast<size_t>(t * u_width + adapter * s.rank + r)]);
        const auto at = static_cast<size_t>(c * s.rank + r);
        const double sum = static_cast<double>(before[at]) + 0.5 * want.sum;
        ASSERT_NEAR(got.second[at], sum, want.bound(s.rows, 0) + 0x1p-23 * std::fabs(sum))
            << "column " << c << " of " << width << ", rank " << r << ", rows " << s.rows;
      }
    }
    EXPECT_EQ(run(), got);
  }
}

TYPED_TEST(CudaLora, SwigluTakesTheGradientOfAWithItsOwn) {
  using T = TypeParam;
  for (const int64_t rows : {1, 15, 16, 17, 500, 4100}) {
    for (const int64_t f : {64, 576, 8192}) {
      for (const int64_t rank : {16, 32}) {
        if (rows * f > 4'500'000) continue;
        const int64_t stride = 2 * f + 16, d_stride = f + 8, q_stride = rank + 8;
        const auto gate_up = Rows<T>::random(rows, 2 * f, stride, 71, 3.0),
                   d_out = Rows<T>::random(rows, f, d_stride, 72), q = Rows<T>::random(rows, rank, q_stride, 73);
        ASSERT_TRUE(swiglu_lora_fits(compute_capability(0), gate_up.data(), stride, f, rank));
        Rows<T> out(rows, f, f), want(rows, 2 * f, stride);
        swiglu_forward(gate_up.data(), stride, rows, f, out.data(), f, nullptr);
        swiglu_backward(gate_up.data(), stride, d_out.data(), d_stride, rows, f, want.data(), stride,
                        static_cast<T*>(nullptr), 0, nullptr);
        const auto before = Rows<float>::random(1, rank * f, rank * f, 74).values();
        const auto run = [&] {
          auto in_place = Rows<T>::random(rows, 2 * f, stride, 71, 3.0);
          auto target = Rows<float>::random(1, rank * f, rank * f, 74);
          const int64_t scratch_size = swiglu_lora_scratch(rows, f, rank);
          const Rows<float> scratch(1, scratch_size, scratch_size);
          swiglu_lora_backward(in_place.data(), stride, d_out.data(), d_stride, rows, f, in_place.data(), stride,
                               q.data(), q_stride, rank, target.data(), scratch.data(), nullptr);
          EXPECT_TRUE(in_place.only_rows_written());
          EXPECT_TRUE(target.only_rows_written());
          EXPECT_TRUE(scratch.nothing_beside_written());
          EXPECT_TRUE(equal_bits(in_place.values(), want.values())) << rows << " x " << f;
          return target.values();
        };
        const auto got = run(), ys = out.values(), qs = q.values();
        const int64_t step = rows > 1000 ? 211 : f > 1000 ? 61 : 1;
        for (int64_t c = 0; c < f; c += step) {
          for (int64_t r = 0; r < rank; ++r) {
            Exact sum;
            for (int64_t t = 0; t < rows; ++t)
              sum.add(ys[static_cast<size_t>(t * f + c)], qs[static_cast<size_t>(t * rank + r)]);
            const auto at = static_cast<size_t>(r * f + c);
            const double wanted = static_cast<double>(before[at]) + sum.sum;
            ASSERT_NEAR(got[at], wanted, sum.bound(rows, 0) + 0x1p-23 * std::fabs(wanted))
                << "column " << c << " of " << f << ", rank " << r << ", rows " << rows;
          }
        }
        EXPECT_EQ(run(), got);
      }
    }
  }
}

TYPED_TEST(CudaLora, OtherLayoutsAreNotTaken) {
  using T = TypeParam;
  const auto* aligned = reinterpret_cast<const T*>(256);
  const AdapterColumns whole = {1, {0, 576}};
  EXPECT_TRUE(lora_fits(80, aligned, 576, whole, 16));
  EXPECT_FALSE(lora_fits(75, aligned, 576, whole, 16));
  EXPECT_FALSE(lora_fits(80, aligned + 1, 576, whole, 16));
  EXPECT_FALSE(lora_fits(80, aligned, 577, whole, 16));
  EXPECT_FALSE(lora_fits(80, aligned, 576, whole, 8));
  EXPECT_FALSE(lora_fits(80, aligned, 576, whole, 80));
  EXPECT_FALSE(lora_fits(80, aligned, 608, {1, {0, 608}}, 16));
}

/// An adapter with all of its forms, rows `room` values apart.
template <class T>
struct RefreshedAdapter {
  RefreshedAdapter(int32_t rank, int32_t k, int32_t n, int64_t room, uint64_t seed)
      : a(Rows<float>::random(1, int64_t{rank} * k, int64_t{rank} * k, 2 * seed)),
        b(Rows<float>::random(1, int64_t{n} * rank, int64_t{n} * rank, 2 * seed + 1)),
        a_out(rank, k, k + room),
        columns(n, rank, rank + room),
        transposed(rank, n, n + room),
        forms{.a = a.data(),
              .b = b.data(),
              .a_out = a_out.data(),
              .columns = columns.data(),
              .transposed = transposed.data(),
              .a_stride = k + room,
              .columns_stride = rank + room,
              .transposed_stride = n + room,
              .rank = rank,
              .k = k,
              .n = n,
              .scale = 0.75f + static_cast<float>(seed % 4)} {}

  void expect_refreshed() const {
    ASSERT_TRUE(a_out.only_rows_written() && columns.only_rows_written() && transposed.only_rows_written());
    std::vector<float> scaled = b.values(), turned(scaled.size());
    for (float& x : scaled) x *= forms.scale;
    for (size_t i = 0; i < scaled.size(); ++i) turned[i % forms.rank * forms.n + i / forms.rank] = scaled[i];
    EXPECT_TRUE(equal_bits(a_out.values(), rounded<T>(a.values())));
    EXPECT_TRUE(equal_bits(columns.values(), rounded<T>(scaled)));
    EXPECT_TRUE(equal_bits(transposed.values(), rounded<T>(turned)));
  }

  Rows<float> a, b;
  Rows<T> a_out, columns, transposed;
  AdapterForms<T> forms;
};

TYPED_TEST(CudaLora, RefreshWritesEveryFormAndNothingElse) {
  using T = TypeParam;
  struct Case {
    int32_t rank, k, n;
  };
  const std::vector<std::vector<Case>> lists = {
      {{16, 64, 64}, {8, 2048, 512}, {64, 128, 2047}},  // whole packs
      {{16, 575, 1}, {3, 7, 5}, {48, 577, 192}, {16, 64, 64}}, {{16, 8192, 2048}}, {{64, 8192, 2048}},
      {{16, 2048, 2048}, {16, 2048, 512}, {16, 2048, 512}},    {{64, 512, 8192}}};
  constexpr int kMostRefreshed = 48;  // of one launch
  for (const auto& cases : lists)
    for (const int64_t room : {0, 3, 8})
      for (const int count : {1, 2, kMostRefreshed, kMostRefreshed + 1, 2 * kMostRefreshed + 3}) {
        if (cases.size() == 1 && count > 2) continue;
        std::deque<RefreshedAdapter<T>> adapters;
        std::vector<AdapterForms<T>> forms;
        for (int i = 0; i < count; ++i) {
          const Case& c = cases[static_cast<size_t>(i) % cases.size()];
          adapters.emplace_back(c.rank, c.k, c.n, room, 31 + static_cast<uint64_t>(i));
          forms.push_back(adapters.back().forms);
        }
        lora_refresh<T>(forms, nullptr);
        for (const auto& adapter : adapters) adapter.expect_refreshed();
      }
}

TYPED_TEST(CudaLora, CopiedRowsAreTheSameBits) {
  using T = TypeParam;
  for (const int64_t rows : {1, 5, 4097}) {
    for (const Layout& from : layouts({1, 7, 8, 9, 16, 48, 112, 576})) {
      for (const Layout& to : layouts({from.width})) {
        const auto x = Rows<T>::random(rows, from.width, from.stride, 51, 1.0, from.offset);
        Rows<T> out(rows, to.width, to.stride, to.offset);
        copy_rows(x.data(), x.stride(), rows, from.width, out.data(), out.stride(), nullptr);
        ASSERT_TRUE(out.only_rows_written()) << rows << " x " << from.width;
        ASSERT_TRUE(equal_bits(out.values(), x.values())) << rows << " x " << from.width;
      }
    }
  }
}

}  // namespace
}  // namespace slmi::kernels::cuda
