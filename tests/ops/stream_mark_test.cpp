// Marks on a stream: what was before them is done, what follows need not be.
#include "slmi/ops/stream_mark.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace slmi::ops {
namespace {

TEST(StreamMark, OnACpuAllIsDone) {
  StreamMark mark(at::kCPU);
  EXPECT_TRUE(mark.reached());
  mark.record();
  EXPECT_TRUE(mark.reached());
  mark.wait();
}

TEST(StreamMark, OnAGpuAWaitEndsBeforeWhatFollows) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU here";
  const at::Device device(at::kCUDA, 0);
  const at::Tensor x = at::rand({4096, 4096}, at::TensorOptions().dtype(at::kFloat).device(device));
  at::Tensor product = at::empty_like(x);
  at::mm_out(product, x, x).sum().item<float>();  // what a first use makes is made
  StreamMark first(device), last(device);
  EXPECT_TRUE(first.reached()) << "never recorded";
  for (const float value : {1.0f, 2.0f}) {  // a mark is used again
    const at::Tensor on_host = at::zeros({1}, at::TensorOptions().dtype(at::kFloat).pinned_memory(true));
    on_host.copy_(at::full({1}, value, x.options()), /*non_blocking=*/true);
    first.record();
    for (int i = 0; i < 100; ++i) at::mm_out(product, x, x);  // 10 ms at 1,400 TFLOP/s
    last.record();
    first.wait();
    EXPECT_EQ(on_host.item<float>(), value);
    EXPECT_TRUE(first.reached());
    EXPECT_FALSE(last.reached());
    last.wait();
    EXPECT_TRUE(last.reached());
  }
}

}  // namespace
}  // namespace slmi::ops
