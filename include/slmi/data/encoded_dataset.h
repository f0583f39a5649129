// A data set as token ids: encoded once, with each row's shared prefix fixed here and never by a batch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "slmi/data/row.h"

namespace slmi::text {
class PromptBuilder;
}

namespace slmi::data {

/// A common instruction shorter than this is not worth a segment of its own.
inline constexpr int64_t kMinSharedPrefix = 16;

/// What to do with rows of more than max_seq_len tokens.
enum class OverLong { Refuse, Skip };

struct EncodeOptions {
  int64_t max_seq_len = 2048;  // tokens of prompt and target together
  OverLong over_long = OverLong::Refuse;
};

/// 64-bit hash of a prefix's ids. The top bit is always set, so it never equals a row's index.
uint64_t hash_of_prefix(std::span<const int32_t> ids);

struct LengthBucket {
  int64_t begin = 0, end = 0;  // rows of begin <= tokens < end
  int64_t num_rows = 0;
};

/// Lengths of all rows, over-long ones included, in tokens.
struct LengthHistogram {
  std::vector<LengthBucket> buckets;  // equal widths, from the shortest to the longest row
  int64_t num_rows = 0, min = 0, max = 0, p50 = 0, p95 = 0;
  int64_t num_tokens = 0, num_target_tokens = 0;
};

/// Rows as one flat array of ids: row i is prompt tokens, then target tokens (its end token among them; none where the
/// row has no answer). Read-only after encode(); thread-safe.
class EncodedDataset {
 public:
  /// Encodes every row with the one prompt builder, in parallel; the result does not depend on the number of threads.
  /// Two rows share a prefix when the tokens before their last user message are the same ids; it is made a shared
  /// one when it has at least kMinSharedPrefix tokens and at least two kept rows have it.
  /// @throws Error{Input} naming file and line of each over-long row (OverLong::Refuse), or if no row is left.
  static EncodedDataset encode(const RowSet& set, const text::PromptBuilder& builder, const EncodeOptions& options);

  /// The same from ids made elsewhere (tests, benchmarks).
  struct Encoded {
    std::vector<int32_t> ids;     // prompt + target
    int64_t target_begin = 0;     // == ids.size() if there is no target
    int64_t instruction_len = 0;  // tokens before the last user message: they could be a shared prefix; 0: none
  };
  static EncodedDataset from_ids(std::vector<Encoded> rows, const EncodeOptions& options);

  int64_t size() const { return static_cast<int64_t>(records_.size()); }
  /// i32 [length]: prompt and target of row i.
  std::span<const int32_t> ids(int64_t i) const;
  int64_t length(int64_t i) const { return static_cast<int64_t>(ids(i).size()); }
  /// Index in ids(i) of the first target token.
  int64_t target_begin(int64_t i) const { return record(i).target_begin; }
  int64_t num_targets(int64_t i) const { return length(i) - target_begin(i); }
  /// Which shared prefix row i begins with; -1: none.
  int32_t prefix_id(int64_t i) const { return record(i).prefix_id; }
  /// Tokens of that prefix; 0: none. Always less than target_begin(i).
  int64_t prefix_len(int64_t i) const { return record(i).prefix_len; }
  /// Index of row i in the RowSet it came from (they differ once rows are skipped).
  int64_t source_row(int64_t i) const { return record(i).source_row; }

  int64_t num_prefixes() const { return static_cast<int64_t>(prefixes_.size()); }
  std::span<const int32_t> prefix_ids(int32_t prefix) const;
  uint64_t prefix_hash(int32_t prefix) const { return prefixes_.at(static_cast<size_t>(prefix)).hash; }
  int64_t rows_of_prefix(int32_t prefix) const { return prefixes_.at(static_cast<size_t>(prefix)).num_rows; }

  /// RowSet indices of the rows skipped for their length.
  const std::vector<int64_t>& skipped() const { return skipped_; }
  const LengthHistogram& lengths() const { return lengths_; }

 private:
  struct Record {
    int64_t begin = 0, target_begin = 0, prefix_len = 0, source_row = 0;
    int32_t prefix_id = -1;
  };
  struct Prefix {
    int64_t begin = 0, length = 0, num_rows = 0;  // begin: in ids_, of the first row that has it
    uint64_t hash = 0;
  };
  const Record& record(int64_t i) const { return records_.at(static_cast<size_t>(i)); }
  static EncodedDataset build(std::vector<Encoded> rows, const EncodeOptions& options,
                              const std::function<std::string(int64_t row)>& name_of_row);
  void find_prefixes(std::span<const int64_t> instruction_len);

  std::vector<int32_t> ids_;
  std::vector<Record> records_;
  std::vector<Prefix> prefixes_;
  std::vector<int64_t> skipped_;
  LengthHistogram lengths_;
};

}  // namespace slmi::data
