// Cross-entropy, its gradient and picking: every level against f64.
#include "slmi/kernels/cpu/cross_entropy.h"

#include <limits>

#include "test_support.h"

namespace slmi::kernels::cpu {
namespace {

constexpr int64_t kRows = 3;

template <class T>
double reference_lse(const T* row, int64_t n) {
  double top = -INFINITY, sum = 0.0;
  for (int64_t v = 0; v < n; ++v) top = std::max(top, static_cast<double>(to_float(row[v])));
  for (int64_t v = 0; v < n; ++v) sum += std::exp(static_cast<double>(to_float(row[v])) - top);
  return top + std::log(sum);
}

class CrossEntropyTest : public LevelTest {
 protected:
  template <class T>
  void check(int64_t vocabulary) {
    const int64_t stride = vocabulary + 5;
    const auto logits = random_rows<T>(kRows, vocabulary, stride, 31, 5.0);
    const std::vector<int32_t> targets = {0, static_cast<int32_t>(vocabulary - 1),
                                          static_cast<int32_t>(vocabulary / 2)};
    Guarded<float> loss(kRows), lse(kRows), loss2(kRows), lse2(kRows);
    cross_entropy_loss(logits.data(), stride, vocabulary, targets.data(), loss.data(), lse.data(), 0, kRows,
                       GetParam());
    auto gradient = logits;
    constexpr float kScale = 0.25f;
    cross_entropy_gradient(gradient.data(), stride, vocabulary, targets.data(), kScale, loss2.data(), lse2.data(), 0,
                           kRows, GetParam());
    ASSERT_TRUE(only_rows_written(gradient, vocabulary, stride));
    EXPECT_TRUE(equal_bits(loss2, loss));
    EXPECT_TRUE(equal_bits(lse2, lse));
    for (int64_t p = 0; p < kRows; ++p) {
      const T* row = logits.data() + p * stride;
      const int32_t target = targets[static_cast<size_t>(p)];
      const double want = reference_lse(row, vocabulary);
      // Rounding of lse itself (of size about 20) and of the sums in blocks.
      const double lse_error = 4e-6;
      ASSERT_NEAR(lse[p], want, lse_error) << vocabulary;
      ASSERT_NEAR(loss[p], want - static_cast<double>(to_float(row[target])), lse_error + 2e-6) << vocabulary;
      for (int64_t v = 0; v < vocabulary; ++v) {
        const double probability = std::exp(static_cast<double>(to_float(row[v])) - want);
        const double g = kScale * (probability - (v == target ? 1.0 : 0.0));
        ASSERT_NEAR(to_float(gradient[p * stride + v]), g,
                    std::fabs(g) * unit_roundoff<T>() + kScale * probability * 1e-5 + 1e-7 * (v == target) + 1e-38)
            << "V " << vocabulary << " row " << p << " token " << v;
      }
    }
  }
};

TEST_P(CrossEntropyTest, EqualsF64) {
  for (const int64_t vocabulary : {1, 2, 15, 16, 17, 33, 100, 2047, 2048, 2049, 5000, 49152}) {
    check<float>(vocabulary);
    check<Bf16>(vocabulary);
  }
}

TEST_P(CrossEntropyTest, OddLogits) {
  const float inf = std::numeric_limits<float>::infinity();
  const auto loss_of = [&](std::vector<float> row) {
    const int32_t target = 0;
    float loss = 0.0f;
    cross_entropy_loss(row.data(), 0, static_cast<int64_t>(row.size()), &target, &loss, static_cast<float*>(nullptr), 0,
                       1, GetParam());
    return loss;
  };
  EXPECT_NEAR(loss_of({1.0f, -inf, 1.0f, -inf}), std::log(2.0), 1e-6);
  EXPECT_NEAR(loss_of({500.0f, 499.0f}), std::log1p(std::exp(-1.0)), 4e-5);  // lse is rounded at 500
  EXPECT_TRUE(std::isnan(loss_of({1.0f, NAN, 2.0f})));
  EXPECT_TRUE(std::isnan(loss_of({1.0f, inf, 2.0f})));
  EXPECT_EQ(loss_of({-inf, 0.0f}), inf);
  std::vector<float> late(5000, -inf);  // whole blocks of probability 0 before and after
  late[3000] = 2.0f;
  late[0] = 2.0f;
  EXPECT_NEAR(loss_of(late), std::log(2.0), 1e-6);
  late[4500] = NAN;
  EXPECT_TRUE(std::isnan(loss_of(late)));
}

TEST_P(CrossEntropyTest, PicksTheFirstGreatest) {
  for (const int64_t n : {1, 5, 16, 17, 2048, 2049, 10000}) {
    auto logits = random_rows<float>(1, n, n, 33, 3.0);
    const int64_t winner = n / 3, later = n - 1;
    logits[winner] = 50.0f;
    logits[later] = 50.0f;
    const Picked picked = pick(logits.data(), n, nullptr, GetParam());
    EXPECT_EQ(picked.id, winner) << n;
    EXPECT_NEAR(picked.log_probability, 50.0 - reference_lse(logits.data(), n), 1e-5) << n;
  }
}

TEST_P(CrossEntropyTest, PicksAmongTheAllowed) {
  const int64_t n = 300;
  const auto logits = random_rows<Bf16>(1, n, n, 34, 3.0);
  std::vector<uint64_t> allowed(static_cast<size_t>((n + 63) / 64), 0);
  int32_t want = -1;
  for (const int64_t v : {7, 63, 64, 150, 299}) {
    allowed[static_cast<size_t>(v / 64)] |= uint64_t{1} << (v % 64);
    if (want < 0 || to_float(logits[v]) > to_float(logits[want])) want = static_cast<int32_t>(v);
  }
  const Picked picked = pick(logits.data(), n, allowed.data(), GetParam());
  EXPECT_EQ(picked.id, want);
  EXPECT_NEAR(picked.log_probability, static_cast<double>(to_float(logits[want])) - reference_lse(logits.data(), n),
              1e-5);
  const std::vector<uint64_t> none(allowed.size(), 0);
  EXPECT_EQ(pick(logits.data(), n, none.data(), GetParam()).id, -1);
}

TEST_P(CrossEntropyTest, PassesOverNan) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> row(40, NAN);
  EXPECT_EQ(pick(row.data(), 40, nullptr, GetParam()).id, -1);
  row[21] = -inf;
  EXPECT_EQ(pick(row.data(), 40, nullptr, GetParam()).id, 21);
  row[30] = -5.0f;
  EXPECT_EQ(pick(row.data(), 40, nullptr, GetParam()).id, 30);
  row[35] = inf;
  EXPECT_EQ(pick(row.data(), 40, nullptr, GetParam()).id, 35);
}

INSTANTIATE_TEST_SUITE_P(Levels, CrossEntropyTest, kAllLevels, print_level);

}  // namespace
}  // namespace slmi::kernels::cpu
