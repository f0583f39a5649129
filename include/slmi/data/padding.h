// Packed batches brought to one of few sizes, so that a GPU's work on one can be recorded and replayed for others.
#pragma once

#include <compare>
#include <cstdint>

#include "slmi/data/packing.h"

namespace slmi::data {

/// How much of each kind a packed batch has, in tokens unless said otherwise.
struct BatchSize {
  int64_t alone = 0, prefix = 0, sharing = 0;  // in rows without a prefix, in prefixes, in own parts behind a prefix
  int64_t segments = 0, prefixes = 0;          // how many
  int64_t targets = 0;                         // how many
  int64_t longest_segment = 0, longest_prefix = 0;
  int64_t most_sharing = 0;  // behind one prefix

  int64_t tokens() const { return alone + prefix + sharing; }
  auto operator<=>(const BatchSize&) const = default;
};

BatchSize size_of(const PackedBatch& batch);

/// The next size of a coarse grid that a batch of this size can be padded to: a sixteenth of an octave apart in tokens,
/// from 4,096 on a thirty-second, an eighth in targets. A function of the size alone, so that a resumed run pads as the
/// first did.
BatchSize padded_size(const BatchSize& size);

/// Fills up to `to` = padded_size(size_of(batch)): segments of token 0 that no other token sees, and targets -1, which
/// count nothing. Afterwards tokens of each kind and targets are exactly as many as `to` says, the others at most.
/// @throws Error{Internal} if the batch is larger than that.
void pad(PackedBatch& batch, const BatchSize& to);

}  // namespace slmi::data
