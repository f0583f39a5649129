// That work is really split: at::parallel_for compiled without OpenMP runs everything on one thread, and says nothing.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

#include "slmi/ops/tensor.h"

namespace slmi::ops::testing {
namespace {

TEST(Parallel, UsesTheThreadsThereAre) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  std::vector<int> visits(100, 0);
  parallel(100, 1, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
    for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
  });
  at::set_num_threads(before);
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(visits, std::vector<int>(100, 1));
}

}  // namespace
}  // namespace slmi::ops::testing
