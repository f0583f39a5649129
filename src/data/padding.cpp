// Sizes of packed batches and their padding; see the header.
#include "slmi/data/padding.h"

#include <algorithm>
#include <bit>

#include "slmi/base/error.h"

namespace slmi::data {
namespace {

constexpr int64_t kTokenGranule = 16;
constexpr int64_t kTokenSteps = 16, kCountSteps = 8, kLengthSteps = 2;  // an octave
/// From here on twice as many: computing tokens that nobody has costs more than recording another size, and padding
/// would be whole tiles of the products.
constexpr int64_t kManyTokens = 4096;
constexpr int64_t kLengthGranule = 128;  // what a block of attention takes at once

/// The smallest multiple of granule >= x among `steps` sizes an octave; 0 stays 0.
int64_t on_grid(int64_t x, int64_t steps, int64_t granule) {
  if (x <= 0) return 0;
  const auto octave = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(x)));
  const int64_t step = std::max(granule, octave / steps);
  return (x + step - 1) / step * step;
}

int64_t token_grid(int64_t tokens) {
  return on_grid(tokens, tokens < kManyTokens ? kTokenSteps : 2 * kTokenSteps, kTokenGranule);
}

int64_t pieces(int64_t tokens, int64_t longest) {
  return tokens == 0 ? 0 : (tokens + longest - 1) / longest;
}

/// Segments of at most `longest` tokens, `tokens` in all, behind the segment `prefix` (-1: none).
void add_segments(PackedBatch& batch, int64_t tokens, int64_t longest, int32_t prefix) {
  while (tokens > 0) {
    const int64_t n = std::min(tokens, longest);
    const size_t end = batch.tokens.size() + static_cast<size_t>(n);
    batch.tokens.resize(end, 0);
    batch.positions.resize(end, 0);  // not counted up: a grid's longest segment may be longer than any row
    batch.dropout_key.resize(end, 0);
    batch.segment_offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
    batch.prefix_of_segment.push_back(prefix);
    batch.row_of_segment.push_back(-1);
    batch.prefix_hash_of_segment.push_back(0);
    tokens -= n;
  }
}

}  // namespace

BatchSize size_of(const PackedBatch& batch) {
  BatchSize out;
  out.segments = batch.num_segments();
  out.targets = batch.num_targets();
  std::vector<int64_t> sharing(static_cast<size_t>(out.segments), 0);  // tokens behind each segment
  std::vector<bool> is_prefix(static_cast<size_t>(out.segments), false);
  const auto length = [&](size_t s) {
    return static_cast<int64_t>(batch.segment_offsets[s + 1]) - batch.segment_offsets[s];
  };
  for (size_t s = 0; s < sharing.size(); ++s) {
    out.longest_segment = std::max(out.longest_segment, length(s));
    if (const int32_t p = batch.prefix_of_segment[s]; p >= 0) {
      is_prefix[static_cast<size_t>(p)] = true;
      sharing[static_cast<size_t>(p)] += length(s);
    }
  }
  for (size_t s = 0; s < sharing.size(); ++s) {
    if (is_prefix[s]) {
      ++out.prefixes;
      out.prefix += length(s);
      out.longest_prefix = std::max(out.longest_prefix, length(s));
      out.most_sharing = std::max(out.most_sharing, sharing[s]);
    } else {
      (batch.prefix_of_segment[s] >= 0 ? out.sharing : out.alone) += length(s);
    }
  }
  return out;
}

BatchSize padded_size(const BatchSize& size) {
  BatchSize out;
  out.alone = token_grid(size.alone);
  if (size.prefix > 0) {  // room for a prefix of padding with somebody behind it
    out.prefix = token_grid(size.prefix + 1);
    out.sharing = token_grid(size.sharing + 1);
  }
  out.targets = on_grid(size.targets, kCountSteps, kTokenGranule);
  const int64_t more_prefix = out.prefix - size.prefix, more_sharing = out.sharing - size.sharing;
  out.longest_prefix = on_grid(std::max(size.longest_prefix, more_prefix), kLengthSteps, kLengthGranule);
  out.longest_segment = on_grid(std::max(size.longest_segment, more_prefix), kLengthSteps, kLengthGranule);
  out.most_sharing = on_grid(std::max(size.most_sharing, more_sharing), kLengthSteps, kLengthGranule);
  const int64_t more_segments = (more_prefix > 0 ? 1 : 0) + pieces(more_sharing, out.longest_segment) +
                                pieces(out.alone - size.alone, out.longest_segment);
  out.segments = on_grid(size.segments + more_segments, kCountSteps, kTokenGranule);
  out.prefixes = on_grid(size.prefixes + (more_prefix > 0 ? 1 : 0), kLengthSteps, 2);
  return out;
}

void pad(PackedBatch& batch, const BatchSize& to) {
  const BatchSize size = size_of(batch);
  require(size.alone <= to.alone && size.prefix <= to.prefix && size.sharing <= to.sharing &&
              size.targets <= to.targets && (size.prefix > 0) == (to.prefix > 0) &&
              (size.prefix == 0 || (size.prefix < to.prefix && size.sharing < to.sharing)),
          ErrorKind::Internal, "a batch of {} + {} + {} tokens with {} targets does not fit into {} + {} + {} with {}",
          size.alone, size.prefix, size.sharing, size.targets, to.alone, to.prefix, to.sharing, to.targets);
  add_segments(batch, to.prefix - size.prefix, to.longest_segment, -1);  // one: longest_segment has room for it
  add_segments(batch, to.sharing - size.sharing, to.longest_segment, static_cast<int32_t>(batch.num_segments()) - 1);
  add_segments(batch, to.alone - size.alone, to.longest_segment, -1);
  batch.target_rows.resize(static_cast<size_t>(to.targets), 0);
  batch.target_ids.resize(static_cast<size_t>(to.targets), -1);
}

}  // namespace slmi::data
