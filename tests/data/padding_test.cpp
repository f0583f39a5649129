// Padding adds what no row sees, and brings batches of like size to one size.
#include "slmi/data/padding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "slmi/base/error.h"
#include "slmi/base/random.h"

namespace slmi::data {
namespace {

using Encoded = EncodedDataset::Encoded;

/// `count` rows; with `prefixes` > 0 all but each seventh row begin with one of so many instructions.
EncodedDataset rows_of(int64_t count, int64_t prefixes, uint64_t seed) {
  Random random(seed);
  std::vector<Encoded> rows;
  for (int64_t i = 0; i < count; ++i) {
    Encoded row;
    if (prefixes > 0 && i % 7 != 6) {
      const auto kind = static_cast<int64_t>(random.below(static_cast<uint64_t>(prefixes)));
      row.instruction_len = 20 + 31 * kind;
      for (int64_t j = 0; j < row.instruction_len; ++j) row.ids.push_back(static_cast<int32_t>(1000 * kind + j + 1));
    }
    const auto own = static_cast<int64_t>(2 + random.below(40));
    row.target_begin = row.instruction_len + own;
    for (int64_t j = 0; j < own + 5; ++j) row.ids.push_back(static_cast<int32_t>(random.below(30000)));
    rows.push_back(std::move(row));
  }
  return EncodedDataset::from_ids(std::move(rows), {});
}

PackedBatch pack_all(const EncodedDataset& dataset) {
  std::vector<int64_t> rows(static_cast<size_t>(dataset.size()));
  std::iota(rows.begin(), rows.end(), 0);
  return pack(dataset, rows, SharedPrefix::On);
}

TEST(Padding, SizesCountEachTokenOnce) {
  const auto batch = pack_all(rows_of(20, 3, 1));
  const BatchSize size = size_of(batch);
  EXPECT_EQ(size.tokens(), batch.num_tokens());
  EXPECT_EQ(size.prefixes, 3);
  EXPECT_EQ(size.prefix, 20 + 51 + 82);
  EXPECT_EQ(size.longest_prefix, 82);
  EXPECT_EQ(size.targets, 100);
  EXPECT_EQ(size.segments, 23);
  EXPECT_GT(size.alone, 0);
}

TEST(Padding, KeepsWhatWasThereAndAddsOnlyWhatNobodySees) {
  for (const int64_t prefixes : {0, 1, 5}) {
    for (const int64_t count : {1, 2, 7, 40, 300}) {
      const auto batch = pack_all(rows_of(count, prefixes, static_cast<uint64_t>(count)));
      const BatchSize want = padded_size(size_of(batch));
      PackedBatch padded = batch;
      pad(padded, want);
      const BatchSize got = size_of(padded);
      ASSERT_EQ(std::tie(got.alone, got.prefix, got.sharing, got.targets),
                std::tie(want.alone, want.prefix, want.sharing, want.targets));
      EXPECT_LE(got.segments, want.segments);
      EXPECT_LE(got.prefixes, want.prefixes);
      EXPECT_LE(got.longest_segment, want.longest_segment);
      EXPECT_LE(got.longest_prefix, want.longest_prefix);
      EXPECT_LE(got.most_sharing, want.most_sharing);
      const auto starts_with = [](const auto& all, const auto& first) {
        return std::equal(first.begin(), first.end(), all.begin());
      };
      EXPECT_TRUE(starts_with(padded.tokens, batch.tokens));
      EXPECT_TRUE(starts_with(padded.positions, batch.positions));
      EXPECT_TRUE(starts_with(padded.segment_offsets, batch.segment_offsets));
      EXPECT_TRUE(starts_with(padded.prefix_of_segment, batch.prefix_of_segment));
      EXPECT_TRUE(starts_with(padded.target_ids, batch.target_ids));
      EXPECT_EQ(padded.segment_offsets.back(), padded.num_tokens());
      EXPECT_EQ(*std::max_element(padded.positions.begin(), padded.positions.end()),
                *std::max_element(batch.positions.begin(), batch.positions.end()));
      for (auto s = static_cast<size_t>(batch.num_segments()); s < padded.prefix_of_segment.size(); ++s)
        EXPECT_TRUE(padded.prefix_of_segment[s] < 0 || padded.prefix_of_segment[s] >= batch.num_segments());
      for (size_t t = batch.target_ids.size(); t < padded.target_ids.size(); ++t) EXPECT_EQ(padded.target_ids[t], -1);
      EXPECT_LE(want.tokens(), size_of(batch).tokens() * 17 / 16 + 3 * 17) << count << " rows, " << prefixes;
    }
  }
}

TEST(Padding, BatchesOfOneKindShareFewSizes) {
  std::set<BatchSize> sizes, padded;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const BatchSize size = size_of(pack_all(rows_of(64, 0, seed)));
    sizes.insert(size);
    padded.insert(padded_size(size));
  }
  EXPECT_GT(sizes.size(), 100u);
  EXPECT_LE(padded.size(), 12u);
}

/// A packed step of a 1B model is of about 4,096 tokens, each of which costs 13 us.
TEST(Padding, LargeBatchesArePaddedByLess) {
  for (const int64_t tokens : {4096, 4097, 4224, 4225, 8192, 8193}) {
    BatchSize size;
    size.alone = tokens;
    size.segments = 40;
    size.longest_segment = 128;
    size.targets = tokens;
    const int64_t step = tokens < 8192 ? 128 : 256;
    EXPECT_EQ(padded_size(size).alone, (tokens + step - 1) / step * step);
  }
}

TEST(Padding, RefusesABatchThatIsLarger) {
  auto batch = pack_all(rows_of(20, 0, 1));
  const auto smaller = padded_size(size_of(pack_all(rows_of(10, 0, 1))));
  EXPECT_THROW(pad(batch, smaller), Error);
}

}  // namespace
}  // namespace slmi::data
