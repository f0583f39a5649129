// The pool: every index once, the same partition each time, exceptions, and resizing.
#include "slmi/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include "expect_error.h"

namespace slmi {
namespace {

using Range = std::tuple<int64_t, int64_t, int>;

/// Restores the number of threads, so that tests do not depend on their order.
class ParallelFor : public ::testing::Test {
 protected:
  void TearDown() override { set_num_threads(before_); }
  int before_ = num_threads();
};

std::set<Range> ranges_of(int64_t n) {
  std::set<Range> out;
  std::mutex mutex;
  parallel_for(n, [&](int64_t begin, int64_t end, int thread) {
    std::lock_guard lock(mutex);
    out.emplace(begin, end, thread);
  });
  return out;
}

TEST_F(ParallelFor, CoversEveryIndexOnce) {
  for (int threads : {1, 2, 3, 8}) {
    set_num_threads(threads);
    for (int64_t n : {1, 2, 3, 7, 8, 9, 1000}) {
      std::vector<std::atomic<int>> seen(n);
      parallel_for(n, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) ++seen[i];
      });
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[i], 1) << threads << " threads, " << i << " of " << n;
    }
  }
}

TEST_F(ParallelFor, PartitionIsContiguousEvenAndAlwaysTheSame) {
  set_num_threads(3);
  const std::set<Range> want = {{0, 3, 0}, {3, 6, 1}, {6, 10, 2}};
  for (int i = 0; i < 50; ++i) ASSERT_EQ(ranges_of(10), want);
  EXPECT_EQ(ranges_of(2), (std::set<Range>{{0, 1, 0}, {1, 2, 1}}));  // no more parts than indices
  EXPECT_TRUE(ranges_of(0).empty());
  EXPECT_TRUE(ranges_of(-1).empty());
}

TEST_F(ParallelFor, LargeCountsDoNotOverflow) {
  set_num_threads(3);
  int64_t covered = 0;
  for (const auto& [begin, end, thread] : ranges_of(int64_t{1} << 60)) covered += end - begin;
  EXPECT_EQ(covered, int64_t{1} << 60);
}

TEST_F(ParallelFor, ExceptionIsRethrownAndThePoolGoesOn) {
  for (int thrower : {0, 1, 2}) {
    set_num_threads(3);
    SLMI_EXPECT_ERROR(Numeric, "in part", parallel_for(3, [&](int64_t, int64_t, int thread) {
                        if (thread == thrower) fail(ErrorKind::Numeric, "in part {}", thread);
                      }));
    EXPECT_EQ(ranges_of(10).size(), 3u);
  }
}

TEST_F(ParallelFor, WorkRunsOnAsManyThreads) {
  set_num_threads(4);
  std::set<std::thread::id> ids;
  std::mutex mutex;
  parallel_for(4, [&](int64_t, int64_t, int) {
    std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_TRUE(ids.contains(std::this_thread::get_id()));
}

TEST_F(ParallelFor, ResizingBetweenCalls) {
  for (int threads : {1, 4, 2, 8, 1, 3}) {
    set_num_threads(threads);
    EXPECT_EQ(num_threads(), threads);
    EXPECT_EQ(ranges_of(100).size(), static_cast<size_t>(threads));
  }
  SLMI_EXPECT_ERROR(Usage, "threads = 0; expected at least 1", set_num_threads(0));
}

TEST_F(ParallelFor, CallsFromSeveralThreadsTakeTurns) {
  set_num_threads(2);
  std::atomic<int64_t> total = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 100; ++i) parallel_for(10, [&](int64_t begin, int64_t end, int) { total += end - begin; });
    });
  for (auto& c : callers) c.join();
  EXPECT_EQ(total, 4 * 100 * 10);
}

TEST(AvailableProcessors, AtLeastOneAndNoMoreThanTheMachineHas) {
  EXPECT_GE(available_processors(), 1);
  EXPECT_LE(available_processors(), static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

}  // namespace
}  // namespace slmi
