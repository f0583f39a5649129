// Rows as token ids, and which of them share a prefix; see the header.
#include "slmi/data/encoded_dataset.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "slmi/base/error.h"
#include "slmi/base/random.h"
#include "slmi/data/row_reader.h"

namespace slmi::data {
namespace {

/// Power-of-two widths, so that bucket borders are round numbers.
constexpr int64_t kMaxBuckets = 16;

int64_t percentile(const std::vector<int64_t>& sorted, int64_t percent) {
  const auto rank = (static_cast<int64_t>(sorted.size()) * percent + 99) / 100;  // nearest rank
  return sorted[static_cast<size_t>(std::max<int64_t>(rank, 1) - 1)];
}

LengthHistogram histogram_of(const std::vector<EncodedDataset::Encoded>& rows) {
  LengthHistogram out;
  std::vector<int64_t> lengths;
  lengths.reserve(rows.size());
  for (const auto& row : rows) {
    lengths.push_back(static_cast<int64_t>(row.ids.size()));
    out.num_tokens += lengths.back();
    out.num_target_tokens += lengths.back() - row.target_begin;
  }
  std::sort(lengths.begin(), lengths.end());
  out.num_rows = static_cast<int64_t>(lengths.size());
  out.min = lengths.front();
  out.max = lengths.back();
  out.p50 = percentile(lengths, 50);
  out.p95 = percentile(lengths, 95);
  int64_t width = 1;
  while (out.max / width - out.min / width >= kMaxBuckets) width *= 2;
  for (int64_t b = out.min / width; b <= out.max / width; ++b) out.buckets.push_back({b * width, (b + 1) * width, 0});
  for (const int64_t length : lengths) ++out.buckets[static_cast<size_t>(length / width - out.min / width)].num_rows;
  return out;
}

void refuse_long_rows(const std::vector<EncodedDataset::Encoded>& rows, int64_t max_seq_len,
                      const std::function<std::string(int64_t)>& name_of_row) {
  std::string message;
  int64_t count = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<int64_t>(rows[i].ids.size()) <= max_seq_len || ++count > kMaxShownProblems) continue;
    message += fmt::format("{}: {} tokens, more than max_seq_len = {}\n", name_of_row(static_cast<int64_t>(i)),
                           rows[i].ids.size(), max_seq_len);
  }
  if (count == 0) return;
  if (count > kMaxShownProblems) message += fmt::format("... and {} more\n", count - kMaxShownProblems);
  fail(ErrorKind::Input, "{}{} of {} rows are too long; raise --max-seq-len, or ask for them to be skipped", message,
       count, rows.size());
}

}  // namespace

uint64_t hash_of_prefix(std::span<const int32_t> ids) {
  uint64_t hash = ids.size();
  for (const int32_t id : ids) {
    uint64_t state = hash ^ static_cast<uint32_t>(id);
    hash = splitmix64(state);
  }
  return hash | (uint64_t{1} << 63);
}

EncodedDataset EncodedDataset::from_ids(std::vector<Encoded> rows, const EncodeOptions& options) {
  return build(std::move(rows), options, [](int64_t i) { return fmt::format("row {}", i); });
}

EncodedDataset EncodedDataset::build(std::vector<Encoded> rows, const EncodeOptions& options,
                                     const std::function<std::string(int64_t)>& name_of_row) {
  require(!rows.empty(), ErrorKind::Input, "the data set has no rows");
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto length = static_cast<int64_t>(rows[i].ids.size());
    require(rows[i].target_begin >= 1 && rows[i].target_begin <= length && rows[i].instruction_len >= 0 &&
                rows[i].instruction_len <= rows[i].target_begin,
            ErrorKind::Internal, "{}: {} ids, target at {}, instruction of {}", name_of_row(static_cast<int64_t>(i)),
            length, rows[i].target_begin, rows[i].instruction_len);
  }
  if (options.over_long == OverLong::Refuse) refuse_long_rows(rows, options.max_seq_len, name_of_row);

  EncodedDataset out;
  out.lengths_ = histogram_of(rows);
  std::vector<int64_t> instruction_len;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Encoded& row = rows[i];
    if (static_cast<int64_t>(row.ids.size()) > options.max_seq_len) {
      out.skipped_.push_back(static_cast<int64_t>(i));
      continue;
    }
    out.records_.push_back({.begin = static_cast<int64_t>(out.ids_.size()),
                            .target_begin = row.target_begin,
                            .source_row = static_cast<int64_t>(i)});
    out.ids_.insert(out.ids_.end(), row.ids.begin(), row.ids.end());
    instruction_len.push_back(row.instruction_len);
  }
  require(!out.records_.empty(), ErrorKind::Input,
          "each of the {} rows is longer than max_seq_len = {} tokens; raise --max-seq-len", rows.size(),
          options.max_seq_len);
  out.find_prefixes(instruction_len);
  return out;
}

void EncodedDataset::find_prefixes(std::span<const int64_t> instruction_len) {
  struct Candidate {
    int64_t begin = 0, length = 0;
    uint64_t hash = 0;
    std::vector<size_t> rows;
  };
  std::vector<Candidate> candidates;  // in the order of their first row, so that numbering is deterministic
  std::unordered_multimap<uint64_t, size_t> candidate_of_hash;
  for (size_t i = 0; i < records_.size(); ++i) {
    // An own part needs a prompt token of its own: its hidden state predicts the first target.
    const int64_t length = instruction_len[i];
    if (length < kMinSharedPrefix || length >= records_[i].target_begin) continue;
    const auto prefix = ids(static_cast<int64_t>(i)).first(static_cast<size_t>(length));
    const uint64_t hash = hash_of_prefix(prefix);
    const auto [begin, end] = candidate_of_hash.equal_range(hash);
    const auto same = std::find_if(begin, end, [&](const auto& entry) {
      const Candidate& c = candidates[entry.second];
      return c.length == length && std::equal(prefix.begin(), prefix.end(), ids_.begin() + c.begin);
    });
    if (same != end) {
      candidates[same->second].rows.push_back(i);
    } else {
      candidate_of_hash.emplace(hash, candidates.size());
      candidates.push_back({records_[i].begin, length, hash, {i}});
    }
  }
  for (const Candidate& c : candidates) {
    if (c.rows.size() < 2) continue;
    for (const size_t i : c.rows) {
      records_[i].prefix_id = static_cast<int32_t>(prefixes_.size());
      records_[i].prefix_len = c.length;
    }
    prefixes_.push_back({c.begin, c.length, static_cast<int64_t>(c.rows.size()), c.hash});
  }
}

std::span<const int32_t> EncodedDataset::ids(int64_t i) const {
  const int64_t begin = record(i).begin;
  const int64_t end = i + 1 < size() ? record(i + 1).begin : static_cast<int64_t>(ids_.size());
  return std::span(ids_).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

std::span<const int32_t> EncodedDataset::prefix_ids(int32_t prefix) const {
  const Prefix& p = prefixes_.at(static_cast<size_t>(prefix));
  return std::span(ids_).subspan(static_cast<size_t>(p.begin), static_cast<size_t>(p.length));
}

}  // namespace slmi::data
