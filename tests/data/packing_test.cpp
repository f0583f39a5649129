// Every row of an epoch is computed once, whatever the cut, the ranks and the sharing.
#include "slmi/data/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "slmi/base/random.h"

namespace slmi::data {
namespace {

using Encoded = EncodedDataset::Encoded;

/// Rows of random lengths; most begin with one of `num_prefixes` instructions.
EncodedDataset random_dataset(int64_t num_rows, uint64_t num_prefixes, uint64_t seed) {
  Random random(seed);
  std::vector<Encoded> rows;
  for (int64_t i = 0; i < num_rows; ++i) {
    Encoded row;
    const uint64_t kind = random.below(num_prefixes + 1);
    if (kind < num_prefixes) {
      row.instruction_len = static_cast<int64_t>(20 + 7 * kind);
      for (int64_t j = 0; j < row.instruction_len; ++j)
        row.ids.push_back(static_cast<int32_t>(100 * kind + 1) + static_cast<int32_t>(j));
    }
    const auto own = static_cast<int64_t>(1 + random.below(30)), targets = static_cast<int64_t>(random.below(20));
    row.target_begin = row.instruction_len + own;
    for (int64_t j = 0; j < own + targets; ++j) row.ids.push_back(static_cast<int32_t>(random.below(30000)));
    rows.push_back(std::move(row));
  }
  return EncodedDataset::from_ids(std::move(rows), {});
}

std::vector<int64_t> all_rows(const EncodedDataset& dataset) {
  std::vector<int64_t> rows(static_cast<size_t>(dataset.size()));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

TEST(PlanStep, AnEpochHasEachRowOnce) {
  const StepPlan plan{.num_rows = 103, .batch_size = 8, .seed = 5};
  ASSERT_EQ(steps_per_epoch(plan), 13);
  std::vector<int64_t> seen;
  for (int64_t step = 0; step < 13; ++step) {
    const auto rows = plan_step(plan, 2, step);
    EXPECT_EQ(rows.size(), step < 12 ? 8u : 7u);
    seen.insert(seen.end(), rows.begin(), rows.end());
  }
  std::sort(seen.begin(), seen.end());
  std::vector<int64_t> expected(103);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(seen, expected);
}

TEST(PlanStep, DependsOnSeedEpochAndStepAlone) {
  const StepPlan plan{.num_rows = 1000, .batch_size = 16, .seed = 5};
  EXPECT_EQ(plan_step(plan, 3, 40), plan_step(plan, 3, 40));
  EXPECT_NE(plan_step(plan, 3, 40), plan_step(plan, 4, 40));
  EXPECT_NE(plan_step(plan, 3, 40), plan_step({.num_rows = 1000, .batch_size = 16, .seed = 6}, 3, 40));
  EXPECT_EQ(plan_step(plan, 0, 0).front(), permutation(1000, 5, 0).front());
}

TEST(PlanStep, RowsOfOnePrefixTogetherOnRequest) {
  const auto dataset = random_dataset(400, 5, 3);
  const StepPlan plan = make_plan(dataset, 7, 11, 4);
  std::vector<int64_t> seen;
  for (int64_t step = 0; step < steps_per_epoch(plan); ++step) {
    const auto rows = plan_step(plan, 1, step);
    EXPECT_EQ(rows, plan_step(plan, 1, step));
    seen.insert(seen.end(), rows.begin(), rows.end());
  }
  int64_t changes = 0, without_prefix = 0;  // of the prefix from one row to the next
  for (size_t i = 0; i < seen.size(); ++i) {
    without_prefix += dataset.prefix_id(seen[i]) < 0 ? 1 : 0;
    changes += i > 0 && dataset.prefix_id(seen[i]) != dataset.prefix_id(seen[i - 1]) ? 1 : 0;
  }
  // At most one change a full run, one a short run of each of the five prefixes, one before and after each other row.
  EXPECT_LE(changes, (400 - without_prefix) / 4 + 5 + without_prefix);
  auto sorted = seen;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, all_rows(dataset));
  EXPECT_NE(plan_step(plan, 1, 0), plan_step(plan, 2, 0));
  EXPECT_NE(sorted, seen);
  EXPECT_EQ(plan_step(make_plan(dataset, 7, 11), 1, 3),
            plan_step({.num_rows = 400, .batch_size = 7, .seed = 11}, 1, 3));
}

class Cutting : public ::testing::TestWithParam<std::tuple<SharedPrefix, int64_t, int64_t>> {};

TEST_P(Cutting, EachRowOnceWithinTheBudget) {
  const auto [shared, max_tokens, world] = GetParam();
  const CutOptions options{.max_tokens = max_tokens, .shared_prefix = shared, .world = world};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto dataset = random_dataset(200, 4, seed);
    const auto rows = plan_step({.num_rows = 200, .batch_size = 64, .seed = seed}, 0, 1);
    const auto micro = cut_into_micro_batches(dataset, rows, options);
    EXPECT_EQ(micro, cut_into_micro_batches(dataset, rows, options));
    EXPECT_TRUE(micro.size() % static_cast<size_t>(world) == 0 || micro.size() == rows.size()) << micro.size();
    std::multiset<int64_t> seen;
    for (const auto& batch : micro) {
      ASSERT_FALSE(batch.empty());
      seen.insert(batch.begin(), batch.end());
      const auto packed = pack(dataset, batch, shared);
      EXPECT_EQ(packed.num_tokens(), count_tokens(dataset, batch, shared));
      EXPECT_TRUE(packed.num_tokens() <= max_tokens || batch.size() == 1u) << packed.num_tokens();
    }
    EXPECT_EQ(seen, std::multiset<int64_t>(rows.begin(), rows.end()));
  }
}

INSTANTIATE_TEST_SUITE_P(Budgets, Cutting,
                         ::testing::Combine(::testing::Values(SharedPrefix::Off, SharedPrefix::On),
                                            ::testing::Values(1, 60, 90, 300, 1000, 1 << 20),
                                            ::testing::Values(1, 3, 64, 100)));

/// A long instruction and a short one, three rows each, whose halves by tokens meet inside the first's rows.
TEST(Cut, RanksTakeWholePrefixesWhereThatIsLess) {
  std::vector<Encoded> rows;
  for (int64_t i = 0; i < 6; ++i) {
    Encoded row;
    row.instruction_len = i < 3 ? 40 : 20;
    row.target_begin = row.instruction_len + 1;
    for (int64_t j = 0; j < row.instruction_len; ++j) row.ids.push_back(i < 3 ? 7 : 9);
    row.ids.insert(row.ids.end(), {static_cast<int32_t>(100 + i), 3, 4, 5, 6});
    rows.push_back(std::move(row));
  }
  const auto dataset = EncodedDataset::from_ids(std::move(rows), {});
  ASSERT_EQ(dataset.num_prefixes(), 2);
  const std::vector<std::vector<int64_t>> want = {{0, 1, 2}, {3, 4, 5}};
  EXPECT_EQ(cut_into_micro_batches(dataset, all_rows(dataset), {.max_tokens = 4096, .world = 2}), want);
}

TEST(Cut, RowsOfOnePrefixStandTogether) {
  const auto dataset = random_dataset(300, 5, 9);
  std::vector<int32_t> prefixes;
  for (const auto& batch : cut_into_micro_batches(dataset, all_rows(dataset), {.max_tokens = 500})) {
    for (const int64_t row : batch) {
      if (prefixes.empty() || prefixes.back() != dataset.prefix_id(row)) prefixes.push_back(dataset.prefix_id(row));
    }
  }
  EXPECT_EQ(prefixes.size(), 6u);
  EXPECT_EQ(std::set<int32_t>(prefixes.begin(), prefixes.end()).size(), 6u);
  EXPECT_EQ(prefixes.back(), -1);
}

TEST(Cut, SizesAreNearlyEqual) {
  std::vector<Encoded> rows;
  for (int i = 0; i < 33; ++i) rows.push_back({std::vector<int32_t>(10, i), 5, 0});
  const auto dataset = EncodedDataset::from_ids(rows, {});
  const auto micro = cut_into_micro_batches(dataset, all_rows(dataset), {.max_tokens = 320});
  ASSERT_EQ(micro.size(), 2u);  // greedy alone gives 32 rows and 1
  EXPECT_EQ(micro[0].size(), 17u);
  EXPECT_EQ(micro[1].size(), 16u);
}

TEST(Cut, ALongRowIsAMicroBatchOfItsOwn) {
  std::vector<Encoded> rows{
      {std::vector<int32_t>(10, 1), 5, 0}, {std::vector<int32_t>(100, 1), 5, 0}, {std::vector<int32_t>(10, 1), 5, 0}};
  const auto dataset = EncodedDataset::from_ids(rows, {});
  EXPECT_EQ(cut_into_micro_batches(dataset, all_rows(dataset), {.max_tokens = 40}),
            (std::vector<std::vector<int64_t>>{{0}, {1}, {2}}));
}

TEST(Deal, RanksShareTheMicroBatches) {
  std::vector<int64_t> seen;
  for (int64_t rank = 0; rank < 3; ++rank) {
    const auto mine = deal_to_rank(8, rank, 3);
    seen.insert(seen.end(), mine.begin(), mine.end());
  }
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 3, 6, 1, 4, 7, 2, 5}));
  EXPECT_TRUE(deal_to_rank(2, 2, 3).empty());
}

TEST(Pack, SmallExampleByHand) {
  std::vector<Encoded> rows(3);
  for (int32_t j = 0; j < 16; ++j) {
    rows[0].ids.push_back(j);
    rows[1].ids.push_back(j);
  }
  rows[0].ids.insert(rows[0].ids.end(), {50, 51, 52});  // one own prompt token, two targets
  rows[0].target_begin = 17;
  rows[0].instruction_len = rows[1].instruction_len = 16;
  rows[1].ids.insert(rows[1].ids.end(), {60, 61, 62});  // two own prompt tokens, one target
  rows[1].target_begin = 18;
  rows[2] = {{70, 71}, 1, 0};
  const auto dataset = EncodedDataset::from_ids(rows, {});
  const uint64_t hash = dataset.prefix_hash(0);

  const auto on = pack(dataset, all_rows(dataset), SharedPrefix::On);
  EXPECT_EQ(on.segment_offsets, (std::vector<int32_t>{0, 16, 19, 22, 24}));
  EXPECT_EQ(on.prefix_of_segment, (std::vector<int32_t>{-1, 0, 0, -1}));
  EXPECT_EQ(on.row_of_segment, (std::vector<int64_t>{-1, 0, 1, 2}));
  EXPECT_EQ(on.prefix_hash_of_segment, (std::vector<uint64_t>{hash, hash, hash, 0}));
  EXPECT_EQ(on.target_rows, (std::vector<int32_t>{16, 17, 20, 22}));
  EXPECT_EQ(on.target_ids, (std::vector<int32_t>{51, 52, 62, 71}));
  EXPECT_EQ(std::vector<int32_t>(on.positions.begin() + 16, on.positions.end()),
            (std::vector<int32_t>{16, 17, 18, 16, 17, 18, 0, 1}));
  EXPECT_EQ(on.dropout_key[15], hash);
  EXPECT_EQ(on.dropout_key[16], 0u);
  EXPECT_EQ(on.dropout_key[19], 1u);

  const auto off = pack(dataset, all_rows(dataset), SharedPrefix::Off);
  EXPECT_EQ(off.segment_offsets, (std::vector<int32_t>{0, 19, 38, 40}));
  EXPECT_EQ(off.prefix_of_segment, (std::vector<int32_t>{-1, -1, -1}));
  EXPECT_EQ(off.row_of_segment, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(off.target_rows, (std::vector<int32_t>{16, 17, 36, 38}));
  EXPECT_EQ(off.dropout_key[18], 0u);
  EXPECT_EQ(off.dropout_key[19], hash);
  EXPECT_EQ(off.dropout_key[35], 1u);
}

/// What each token of a row sees: the row's tokens before it, with their positions and dropout keys.
struct View {
  std::vector<int32_t> tokens, positions;
  std::vector<uint64_t> keys;
  std::vector<std::pair<int32_t, int32_t>> targets;  // position of the predicting token, target id
  bool operator==(const View&) const = default;
};

std::map<int64_t, View> views_of(const PackedBatch& batch) {
  std::map<int64_t, View> out;
  std::vector<int64_t> row_of_token(batch.tokens.size());
  for (size_t s = 0; s < batch.row_of_segment.size(); ++s) {
    const auto append = [&](View& view, size_t segment) {
      for (int32_t t = batch.segment_offsets[segment]; t < batch.segment_offsets[segment + 1]; ++t) {
        view.tokens.push_back(batch.tokens[static_cast<size_t>(t)]);
        view.positions.push_back(batch.positions[static_cast<size_t>(t)]);
        view.keys.push_back(batch.dropout_key[static_cast<size_t>(t)]);
        row_of_token[static_cast<size_t>(t)] = batch.row_of_segment[segment];
      }
    };
    if (batch.row_of_segment[s] < 0) continue;
    const int32_t prefix = batch.prefix_of_segment[s];
    EXPECT_LT(prefix, static_cast<int32_t>(s));
    View& view = out[batch.row_of_segment[s]];
    if (prefix >= 0) append(view, static_cast<size_t>(prefix));
    append(view, s);
  }
  for (size_t p = 0; p < batch.target_rows.size(); ++p) {
    const auto t = static_cast<size_t>(batch.target_rows[p]);
    out.at(row_of_token[t]).targets.emplace_back(batch.positions[t], batch.target_ids[p]);
  }
  return out;
}

TEST(Pack, SharingChangesNothingThatARowSees) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const auto dataset = random_dataset(60, 3, seed);
    auto rows = all_rows(dataset);
    Random(seed).shuffle(std::span<int64_t>(rows));
    const auto on = pack(dataset, rows, SharedPrefix::On), off = pack(dataset, rows, SharedPrefix::Off);
    EXPECT_EQ(on.target_ids, off.target_ids);
    EXPECT_EQ(on.num_targets(), count_targets(dataset, rows));
    EXPECT_LT(on.num_tokens(), off.num_tokens());
    const auto views = views_of(on);
    EXPECT_EQ(views, views_of(off));
    ASSERT_EQ(views.size(), 60u);
    for (const auto& [row, view] : views) {
      const auto ids = dataset.ids(row);
      EXPECT_EQ(view.tokens, std::vector<int32_t>(ids.begin(), ids.end()));
      for (const auto& [position, id] : view.targets) EXPECT_EQ(id, ids[static_cast<size_t>(position) + 1]);
      for (size_t i = 0; i < view.positions.size(); ++i) EXPECT_EQ(view.positions[i], static_cast<int32_t>(i));
    }
  }
}

TEST(Pack, MemoryIsReused) {
  const auto dataset = random_dataset(50, 2, 1);
  PackedBatch batch;
  pack_into(dataset, all_rows(dataset), SharedPrefix::Off, batch);
  const auto* tokens = batch.tokens.data();
  const std::vector<int64_t> few{3, 4};
  pack_into(dataset, few, SharedPrefix::On, batch);
  EXPECT_EQ(batch.tokens.data(), tokens);
  EXPECT_EQ(views_of(batch), views_of(pack(dataset, few, SharedPrefix::On)));
  EXPECT_EQ(batch.segment_offsets.front(), 0);
}

}  // namespace
}  // namespace slmi::data
