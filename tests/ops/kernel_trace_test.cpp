// What a list of launches adds up to.
#include "slmi/ops/kernel_trace.h"

#include <gtest/gtest.h>

namespace slmi::ops {
namespace {

TEST(KernelTrace, LaunchesAddUpByNameWithTheTimeInWhichNothingRan) {
  const auto kernels = by_kernel({
      {"sum", 6'000'000, 7'000'000},      // after 2 ms of nothing
      {"product", 1'000'000, 4'000'000},  // the first: what was before it is not known
      {"copy", 2'000'000, 3'000'000},     // beside the product
      {"product", 7'000'000, 9'000'000},  // at once
      {"sum", 9'500'000, 9'750'000},
  });
  ASSERT_EQ(kernels.size(), 3u);
  EXPECT_EQ(kernels[0].name, "product");
  EXPECT_EQ(kernels[0].count, 2);
  EXPECT_DOUBLE_EQ(kernels[0].total_ms, 5.0);
  EXPECT_DOUBLE_EQ(kernels[0].idle_ms, 0.0);
  EXPECT_EQ(kernels[1].name, "sum");
  EXPECT_EQ(kernels[1].count, 2);
  EXPECT_DOUBLE_EQ(kernels[1].total_ms, 1.25);
  EXPECT_DOUBLE_EQ(kernels[1].idle_ms, 2.5);
  EXPECT_EQ(kernels[2].name, "copy");
  EXPECT_DOUBLE_EQ(kernels[2].total_ms, 1.0);
  EXPECT_DOUBLE_EQ(kernels[2].idle_ms, 0.0);
}

TEST(KernelTrace, NothingAddsUpToNothing) {
  EXPECT_TRUE(by_kernel({}).empty());
}

}  // namespace
}  // namespace slmi::ops
