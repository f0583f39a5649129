// From rows to packed batches of plain arrays: which rows a step takes, how they are cut and dealt, how they are laid
// out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "slmi/data/encoded_dataset.h"

namespace slmi::data {

/// Whether a prefix that rows share is computed once a batch, or again in each row. Same mathematics, same targets.
enum class SharedPrefix { Off, On };

/// Segments laid one after another, no padding; attention is causal inside a segment, and a segment with a prefix also
/// sees all of the prefix's segment. T tokens, S segments, P targets.
struct PackedBatch {
  std::vector<int32_t> tokens;             // [T]
  std::vector<int32_t> positions;          // [T] from 0 in each row; an own part goes on where its prefix ends
  std::vector<int32_t> segment_offsets;    // [S+1] segment s is tokens [offsets[s], offsets[s+1])
  std::vector<int32_t> prefix_of_segment;  // [S] the segment that holds its prefix, always an earlier one; -1: none
  std::vector<int64_t> row_of_segment;     // [S] row of the data set; -1: a prefix segment
  std::vector<uint64_t> prefix_hash_of_segment;  // [S] hash of the shared prefix that the segment is, contains or uses;
                                                 // 0: none
  std::vector<uint64_t> dropout_key;  // [T] the row's index; for tokens of a shared prefix its hash, whether or not it
                                      // is shared in this batch: dropout then does not depend on SharedPrefix
  std::vector<int32_t> target_rows;   // [P] index into T of the token whose hidden state predicts the target
  std::vector<int32_t> target_ids;    // [P]

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_segments() const { return static_cast<int64_t>(prefix_of_segment.size()); }
  int64_t num_targets() const { return static_cast<int64_t>(target_ids.size()); }
  /// Empties the arrays and keeps their memory.
  void clear();
};

/// What the order of rows depends on, beside the epoch and the step.
struct StepPlan {
  int64_t num_rows = 0;    // of the data set, > 0
  int64_t batch_size = 1;  // rows of a global optimizer step, > 0
  uint64_t seed = 0;
  // More than 1: up to this many rows of one shared prefix follow each other in the epoch's order, so that a step has
  // fewer prefixes to compute and less variety; with many lists and small steps sharing saves little otherwise.
  int64_t rows_together = 1;
  std::vector<int32_t> prefix_of_row = {};  // [num_rows], -1: none; needed only for rows_together > 1
};

/// A plan over a data set.
StepPlan make_plan(const EncodedDataset& dataset, int64_t batch_size, uint64_t seed, int64_t rows_together = 1);

/// Steps of an epoch; the last one may be short, and is kept.
int64_t steps_per_epoch(const StepPlan& plan);

/// Rows of one global step, from plan, epoch and step alone: a slice of the epoch's order, which has each row once.
/// rows_together == 1: the order is permutation(num_rows, seed, epoch). Otherwise that permutation's rows are gathered
/// by prefix into runs of rows_together, and the runs shuffled. 0 <= step < steps_per_epoch.
std::vector<int64_t> plan_step(const StepPlan& plan, int64_t epoch, int64_t step);

struct CutOptions {
  int64_t max_tokens = 4096;  // of a micro-batch, each shared prefix counted once
  SharedPrefix shared_prefix = SharedPrefix::On;
  int64_t world = 1;  // ranks to feed: a multiple of it in micro-batches, where there are rows enough
};

/// Cuts a step's rows into micro-batches: rows of one prefix stand together, in the order of their first; as few
/// micro-batches as that order allows, of nearly equal size. A row longer than max_tokens is a micro-batch of its own.
/// Deterministic. A row appears in the result as often as in `rows`.
std::vector<std::vector<int64_t>> cut_into_micro_batches(const EncodedDataset& dataset, std::span<const int64_t> rows,
                                                         const CutOptions& options);

/// Indices of the micro-batches that `rank` of `world` computes: rank, rank + world, ... A pure function.
std::vector<int64_t> deal_to_rank(int64_t num_micro_batches, int64_t rank, int64_t world);

/// Tokens that pack() gives for these rows.
int64_t count_tokens(const EncodedDataset& dataset, std::span<const int64_t> rows, SharedPrefix shared_prefix);
/// Target tokens of these rows; over a global step this divides the loss.
int64_t count_targets(const EncodedDataset& dataset, std::span<const int64_t> rows);

/// Lays rows out. With SharedPrefix::On each shared prefix is one segment before its first user and the rows' own parts
/// (at least one prompt token each) refer to it; with Off every segment is a whole row. Targets come in the order of
/// `rows` either way. @throws Error{Internal} if the tokens do not fit 31 bits.
PackedBatch pack(const EncodedDataset& dataset, std::span<const int64_t> rows, SharedPrefix shared_prefix);
/// The same into a batch whose memory is reused.
void pack_into(const EncodedDataset& dataset, std::span<const int64_t> rows, SharedPrefix shared_prefix,
               PackedBatch& out);

}  // namespace slmi::data
