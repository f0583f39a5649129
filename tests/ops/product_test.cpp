// Products with a dense matrix against f64, on both sides of where the kernel for few rows ends.
#include "slmi/ops/product.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "slmi/kernels/cpu/gemv.h"

namespace slmi::ops::testing {
namespace {

constexpr int64_t kMost = kernels::cpu::kMaxGemvRows;

/// x, w and y as columns of wider matrices.
struct Operands {
  at::Tensor x, w, y;
  Operands(int64_t rows, int64_t n, int64_t k, at::ScalarType type)
      : x(at::randn({rows, k + 7}).to(type).narrow(1, 0, k)),
        w(at::randn({n, k + 3}).to(type).narrow(1, 0, k)),
        y(at::full({rows, n + 2}, 77.0).to(type).narrow(1, 1, n)) {}
};

TEST(Product, EqualsF64OnBothSidesOfTheKernelsEnd) {
  at::manual_seed(7);
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const int64_t rows : {int64_t{1}, int64_t{6}, kMost, kMost + 1}) {
      Operands o(rows, 131, 200, type);
      product_into(o.x, o.w, o.y);
      const at::Tensor want = at::mm(o.x.to(at::kDouble), o.w.to(at::kDouble).t());
      const double error = ((o.y.to(at::kDouble) - want).norm() / want.norm()).item<double>();
      EXPECT_LT(error, type == at::kFloat ? 1e-6 : 5e-3) << rows << " rows of " << type;
    }
}

TEST(Product, ARowInABatchIsTheRowAlone) {
  at::manual_seed(8);
  Operands o(kMost, 97, 64, at::kFloat);
  product_into(o.x, o.w, o.y);
  for (const int64_t row : {int64_t{0}, int64_t{5}, kMost - 1}) {
    const at::Tensor alone = at::empty({1, 97});
    product_into(o.x.narrow(0, row, 1), o.w, alone);
    EXPECT_TRUE(at::equal(alone, o.y.narrow(0, row, 1))) << row;
  }
}

TEST(Product, NoRowsAreNoWork) {
  Operands o(0, 4, 4, at::kFloat);
  product_into(o.x, o.w, o.y);
  EXPECT_EQ(o.y.numel(), 0);
}

}  // namespace
}  // namespace slmi::ops::testing
