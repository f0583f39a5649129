// Shared prefixes, over-long rows and lengths of an encoded data set.
#include "slmi/data/encoded_dataset.h"

#include <gtest/gtest.h>

#include <numeric>

#include "slmi/base/error.h"

namespace slmi::data {
namespace {

using Encoded = EncodedDataset::Encoded;

/// `instruction` tokens that start at `first`, then `own` prompt tokens and `targets` target tokens.
Encoded make_row(int32_t first, int64_t instruction, int64_t own, int64_t targets, int32_t salt) {
  Encoded row;
  row.ids.resize(static_cast<size_t>(instruction + own + targets));
  std::iota(row.ids.begin(), row.ids.begin() + instruction, first);
  std::iota(row.ids.begin() + instruction, row.ids.end(), 1000 * (salt + 1));
  row.instruction_len = instruction;
  row.target_begin = instruction + own;
  return row;
}

std::string error_of(std::vector<Encoded> rows, const EncodeOptions& options) {
  try {
    EncodedDataset::from_ids(std::move(rows), options);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Input);
    return e.what();
  }
  return "no error";
}

TEST(EncodedDataset, RowsComeBackAsTheyWere) {
  const std::vector<Encoded> rows{make_row(5, 20, 3, 4, 0), make_row(5, 0, 1, 1, 1), make_row(9, 30, 2, 0, 2)};
  const auto dataset = EncodedDataset::from_ids(rows, {});
  ASSERT_EQ(dataset.size(), 3);
  for (int64_t i = 0; i < 3; ++i) {
    const auto ids = dataset.ids(i);
    EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), rows[static_cast<size_t>(i)].ids);
    EXPECT_EQ(dataset.target_begin(i), rows[static_cast<size_t>(i)].target_begin);
    EXPECT_EQ(dataset.source_row(i), i);
  }
  EXPECT_EQ(dataset.num_targets(0), 4);
  EXPECT_EQ(dataset.num_targets(2), 0);
}

TEST(EncodedDataset, APrefixIsSharedFromSixteenTokensAndTwoRowsOn) {
  const auto dataset = EncodedDataset::from_ids({make_row(5, 16, 3, 4, 0),   // shared with the next
                                                 make_row(5, 16, 2, 4, 1),   //
                                                 make_row(6, 16, 2, 4, 2),   // other ids, alone
                                                 make_row(7, 15, 2, 4, 3),   // too short
                                                 make_row(7, 15, 2, 4, 4),   //
                                                 make_row(5, 17, 2, 4, 5),   // longer, alone
                                                 make_row(8, 40, 2, 4, 6),   // shared with the last
                                                 make_row(8, 40, 2, 4, 7)},  //
                                                {});
  std::vector<int32_t> ids;
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    ids.push_back(dataset.prefix_id(i));
    lengths.push_back(dataset.prefix_len(i));
  }
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 0, -1, -1, -1, -1, 1, 1}));
  EXPECT_EQ(lengths, (std::vector<int64_t>{16, 16, 0, 0, 0, 0, 40, 40}));
  ASSERT_EQ(dataset.num_prefixes(), 2);
  EXPECT_EQ(dataset.rows_of_prefix(0), 2);
  EXPECT_EQ(dataset.prefix_ids(1).size(), 40u);
  EXPECT_EQ(dataset.prefix_ids(1)[0], 8);
  EXPECT_EQ(dataset.prefix_hash(0), hash_of_prefix(dataset.ids(0).first(16)));
}

TEST(EncodedDataset, AnOwnPartKeepsAPromptToken) {
  const auto dataset = EncodedDataset::from_ids({make_row(5, 20, 0, 4, 0), make_row(5, 20, 0, 4, 1)}, {});
  EXPECT_EQ(dataset.prefix_id(0), -1);
  EXPECT_EQ(dataset.num_prefixes(), 0);
}

TEST(EncodedDataset, PrefixHashIsPinned) {
  const std::vector<int32_t> a{1, 2, 3}, b{1, 3, 2}, c{1, 2, 3, 0};
  EXPECT_EQ(hash_of_prefix(a), hash_of_prefix(a));
  EXPECT_NE(hash_of_prefix(a), hash_of_prefix(b));
  EXPECT_NE(hash_of_prefix(a), hash_of_prefix(c));
  EXPECT_EQ(hash_of_prefix(a) >> 63, 1u);
  // A checkpoint is resumed with the same dropout only while this value stays.
  EXPECT_EQ(hash_of_prefix(a), 9297450450171549734u);
}

TEST(EncodedDataset, OverLongRowsAreAllNamed) {
  EXPECT_EQ(error_of({make_row(0, 0, 5, 6, 0), make_row(0, 0, 5, 5, 1), make_row(0, 0, 9, 9, 2)}, {.max_seq_len = 10}),
            "row 0: 11 tokens, more than max_seq_len = 10\nrow 2: 18 tokens, more than max_seq_len = 10\n"
            "2 of 3 rows are too long; raise --max-seq-len, or ask for them to be skipped");
}

TEST(EncodedDataset, OverLongRowsAreSkippedOnRequestAndCounted) {
  const EncodeOptions options{.max_seq_len = 22, .over_long = OverLong::Skip};
  const auto dataset =
      EncodedDataset::from_ids({make_row(5, 18, 5, 6, 0), make_row(5, 18, 2, 2, 1), make_row(0, 0, 9, 9, 2)}, options);
  ASSERT_EQ(dataset.size(), 2);
  EXPECT_EQ(dataset.skipped(), (std::vector<int64_t>{0}));
  EXPECT_EQ(dataset.source_row(0), 1);
  EXPECT_EQ(dataset.source_row(1), 2);
  EXPECT_EQ(dataset.prefix_id(0), -1) << "the row that shared its prefix is gone";
  EXPECT_EQ(dataset.lengths().num_rows, 3);
  EXPECT_NE(error_of({make_row(0, 0, 20, 6, 0)}, options).find("each of the 1 rows is longer"), std::string::npos);
}

TEST(EncodedDataset, LengthHistogram) {
  std::vector<Encoded> rows;
  for (int i = 0; i < 100; ++i) rows.push_back(make_row(0, 0, 10 + i, 1, i));
  const auto lengths = EncodedDataset::from_ids(rows, {}).lengths();
  EXPECT_EQ(lengths.min, 11);
  EXPECT_EQ(lengths.max, 110);
  EXPECT_EQ(lengths.p50, 60);
  EXPECT_EQ(lengths.p95, 105);
  EXPECT_EQ(lengths.num_tokens, (11 + 110) * 50);
  EXPECT_EQ(lengths.num_target_tokens, 100);
  ASSERT_LE(lengths.buckets.size(), 16u);
  int64_t total = 0;
  for (size_t i = 0; i < lengths.buckets.size(); ++i) {
    total += lengths.buckets[i].num_rows;
    EXPECT_EQ(lengths.buckets[i].end - lengths.buckets[i].begin, 8);
    if (i > 0) {
      EXPECT_EQ(lengths.buckets[i].begin, lengths.buckets[i - 1].end);
    }
  }
  EXPECT_EQ(total, 100);
  EXPECT_EQ(lengths.buckets.front().num_rows, 5);  // 11 .. 15
}

}  // namespace
}  // namespace slmi::data
