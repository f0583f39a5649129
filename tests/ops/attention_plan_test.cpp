// What FlashAttention and the packed kernels are told of a batch's segments.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "slmi/ops/attention.h"

namespace slmi::ops {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

AttentionSegment segment(int64_t begin, int64_t length, int64_t prefix_begin = 0, int64_t prefix_length = 0) {
  return {begin, length, prefix_begin, prefix_length, begin, length};
}

/// One alone, two prefixes with who shares them, a third that nobody does.
std::vector<AttentionSegment> segments() {
  return {segment(0, 3),        segment(3, 4),        segment(7, 2, 3, 4), segment(9, 1),
          segment(10, 3, 9, 1), segment(13, 1, 3, 4), segment(14, 5)};
}

template <class T>
std::vector<T> values(const at::Tensor& x) {
  return {x.data_ptr<T>(), x.data_ptr<T>() + x.numel()};
}

TEST(AttentionPlan, RowsAreCollectedByPrefix) {
  const PrefixRows rows(segments());
  EXPECT_THAT(rows.sharing, ElementsAre(7, 8, 13, 10, 11, 12));
  EXPECT_THAT(rows.prefix, ElementsAre(3, 4, 5, 6, 9));
  EXPECT_THAT(rows.sharing_offsets, ElementsAre(0, 3, 6));
  EXPECT_THAT(rows.prefix_offsets, ElementsAre(0, 4, 5));
  EXPECT_THAT(rows.of_segment, ElementsAre(0, 0, 0, 0, 3, 4, 0, 0, 9, 1, 3, 4, 0, 0));
}

TEST(AttentionPlan, RowsAreEmptyWhereNobodyShares) {
  const PrefixRows rows({segment(0, 3), segment(3, 2)});
  EXPECT_THAT(rows.sharing, IsEmpty());
  EXPECT_THAT(rows.prefix, IsEmpty());
  EXPECT_THAT(rows.sharing_offsets, ElementsAre(0));
  EXPECT_THAT(rows.of_segment, ElementsAre(0, 0, 0, 0));
  EXPECT_FALSE(AttentionPlan({segment(0, 3), segment(3, 2)}, at::kCPU).flash().sharing_rows.defined());
}

TEST(AttentionPlan, FlashHasTheRowsAndTheLongest) {
  const AttentionPlan plan(segments(), at::kCPU);
  const auto& flash = plan.flash();
  EXPECT_THAT(values<int32_t>(flash.offsets), ElementsAre(0, 3, 7, 9, 10, 13, 14, 19));
  EXPECT_EQ(flash.longest, 5);
  EXPECT_THAT(values<int64_t>(flash.sharing_rows), ElementsAre(7, 8, 13, 10, 11, 12));
  EXPECT_THAT(values<int64_t>(flash.prefix_rows), ElementsAre(3, 4, 5, 6, 9));
  EXPECT_THAT(values<int32_t>(flash.prefix_offsets), ElementsAre(0, 4, 5));
  EXPECT_EQ(flash.most_sharing, 3);
  EXPECT_EQ(flash.longest_prefix, 4);
  EXPECT_EQ(flash.segment_prefix.size(0), 7);
}

TEST(AttentionPlan, FlashTakesOnlySegmentsThatFollowEachOther) {
  EXPECT_FALSE(AttentionPlan({segment(0, 3), segment(4, 2)}, at::kCPU).flash().offsets.defined());
  AttentionSegment cached = segment(0, 1);
  cached.own_len = 5;
  EXPECT_FALSE(AttentionPlan({cached}, at::kCPU).flash().offsets.defined());
}

}  // namespace
}  // namespace slmi::ops
