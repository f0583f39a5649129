// The cut of a batch's attention into parts: balance, completeness, and which key rows several parts share.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "attention_segments.h"

namespace slmi::kernels::cpu {
namespace {

TEST(AttentionPlan, PartsAreBalanced) {
  const AttentionShape shape = shape_of(9, 3, 64);
  const auto heaviest = [&](const std::vector<AttentionSegment>& segments, int parts) {
    const AttentionPlan plan(shape, segments, parts, AttentionPasses::ForwardAndBackward);
    std::vector<double> cost(static_cast<size_t>(parts), 0.0);
    double total = 0.0;
    for (int p = 0; p < parts; ++p) {
      for (const auto& item : plan.items(p)) {
        const auto& s = segments[static_cast<size_t>(item.segment)];
        for (int64_t i = item.query; i < item.query + item.num_queries; ++i) {
          cost[static_cast<size_t>(p)] += static_cast<double>(s.prefix_len + s.own_len - s.q_len + i + 1);
        }
      }
      total += cost[static_cast<size_t>(p)];
    }
    return *std::max_element(cost.begin(), cost.end()) / (total / parts);
  };
  EXPECT_LE(heaviest(with_prefix(0, {2048}), 2), 1.1);
  EXPECT_LE(heaviest(with_prefix(0, {2048}), 16), 1.2);
  EXPECT_LE(heaviest(with_prefix(200, std::vector<int64_t>(64, 60)), 2), 1.1);
  EXPECT_LE(heaviest(with_prefix(200, std::vector<int64_t>(64, 60)), 16), 1.2);
  EXPECT_LE(heaviest(with_prefix(64, {60, 60, 60, 60}), 2), 1.1);
}

TEST(AttentionPlan, EveryRowOfSeveralPartsIsShared) {
  const auto segments = with_prefix(33, {100, 1, 7, 300});
  for (const int parts : {1, 2, 7}) {
    const AttentionPlan plan(shape_of(6, 3, 16), segments, parts, AttentionPasses::ForwardAndBackward);
    std::vector<std::set<int>> parts_of_row(441);
    for (int p = 0; p < parts; ++p) {
      for (const auto& item : plan.items(p)) {
        const auto& s = segments[static_cast<size_t>(item.segment)];
        for (int64_t j = 0; j < s.prefix_len; ++j) parts_of_row[static_cast<size_t>(s.prefix_begin + j)].insert(p);
        for (int64_t j = 0; j < s.own_len; ++j) parts_of_row[static_cast<size_t>(s.own_begin + j)].insert(p);
      }
    }
    int64_t shared = 0;
    for (int64_t r = 0; r < 441; ++r) {
      const bool several = parts_of_row[static_cast<size_t>(r)].size() > 1;
      ASSERT_EQ(plan.shared_slot(r), several ? shared : -1) << "parts " << parts << " row " << r;
      shared += several ? 1 : 0;
    }
    EXPECT_EQ(plan.num_shared_rows(), shared);
    EXPECT_EQ(shared > 0, parts > 1);
  }
}

TEST(AttentionPlan, EveryQueryAndHeadOnce) {
  const AttentionShape shape = shape_of(6, 3, 16);
  const auto segments = with_prefix(33, {100, 1, 7, 300});
  for (const int parts : {1, 2, 7, 64}) {
    const AttentionPlan plan(shape, segments, parts, AttentionPasses::ForwardAndBackward);
    std::vector<int> seen(441 * 3, 0);
    for (int p = 0; p < parts; ++p) {
      for (const auto& item : plan.items(p)) {
        for (int64_t i = 0; i < item.num_queries; ++i) {
          const int64_t row = segments[static_cast<size_t>(item.segment)].q_begin + item.query + i;
          ++seen[static_cast<size_t>(row * 3 + item.kv_head)];
        }
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 441 * 3) << parts;
  }
}

}  // namespace
}  // namespace slmi::kernels::cpu
