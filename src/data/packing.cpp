// Choosing, cutting and laying out rows; see the header.
#include "slmi/data/packing.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "slmi/base/error.h"
#include "slmi/base/random.h"

namespace slmi::data {
namespace {

using MicroBatches = std::vector<std::vector<int64_t>>;

/// Tokens of a growing set of rows, each shared prefix counted once.
class TokenCounter {
 public:
  TokenCounter(const EncodedDataset& dataset, SharedPrefix shared_prefix)
      : dataset_(dataset), shared_prefix_(shared_prefix) {}

  int64_t tokens() const { return tokens_; }
  int64_t cost_of(int64_t row) const {
    const bool prefix_is_there = shared_prefix_ == SharedPrefix::On && prefixes_.contains(dataset_.prefix_id(row));
    return dataset_.length(row) - (prefix_is_there ? dataset_.prefix_len(row) : 0);
  }
  void add(int64_t row) {
    tokens_ += cost_of(row);
    if (dataset_.prefix_id(row) >= 0) prefixes_.insert(dataset_.prefix_id(row));
  }
  void clear() {
    tokens_ = 0;
    prefixes_.clear();
  }

 private:
  const EncodedDataset& dataset_;
  SharedPrefix shared_prefix_;
  int64_t tokens_ = 0;
  std::unordered_set<int32_t> prefixes_;
};

/// The rows with those of one prefix together, prefixes in the order of their first row; rows without one come last.
std::vector<int64_t> grouped_by_prefix(const EncodedDataset& dataset, std::span<const int64_t> rows) {
  std::unordered_map<int32_t, int64_t> order_of_prefix;
  for (const int64_t row : rows) {
    order_of_prefix.try_emplace(dataset.prefix_id(row), static_cast<int64_t>(order_of_prefix.size()));
  }
  order_of_prefix[-1] = std::numeric_limits<int64_t>::max();
  std::vector<int64_t> out(rows.begin(), rows.end());
  std::stable_sort(out.begin(), out.end(), [&](int64_t a, int64_t b) {
    return order_of_prefix.at(dataset.prefix_id(a)) < order_of_prefix.at(dataset.prefix_id(b));
  });
  return out;
}

/// Cuts where the next row would pass the budget. A micro-batch costs at least as much as any part of it, so this
/// gives the fewest micro-batches for the order, and a larger budget never gives more.
MicroBatches cut_greedily(const EncodedDataset& dataset, std::span<const int64_t> rows, int64_t budget,
                          SharedPrefix shared_prefix) {
  MicroBatches out;
  TokenCounter counter(dataset, shared_prefix);
  for (const int64_t row : rows) {
    if (out.empty() || counter.tokens() + counter.cost_of(row) > budget) {
      out.emplace_back();
      counter.clear();
    }
    counter.add(row);
    out.back().push_back(row);
  }
  return out;
}

/// The cut of the smallest budget that needs at most `most` micro-batches: their sizes are nearly equal. `max_tokens`
/// is known to do.
MicroBatches cut_evenly(const EncodedDataset& dataset, std::span<const int64_t> rows, MicroBatches best,
                        const CutOptions& options, size_t most) {
  int64_t low = 1, high = options.max_tokens;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    MicroBatches cut = cut_greedily(dataset, rows, middle, options.shared_prefix);
    if (cut.size() <= most) {
      best = std::move(cut);
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return best;
}

/// Tokens of the first 0, 1, ... rows, all but the last.
std::vector<int64_t> running_tokens(const EncodedDataset& dataset, std::span<const int64_t> rows,
                                    SharedPrefix shared_prefix) {
  TokenCounter counter(dataset, shared_prefix);
  std::vector<int64_t> out;
  for (const int64_t row : rows) {
    out.push_back(counter.tokens());
    counter.add(row);
  }
  return out;
}

/// Halves the micro-batch of most tokens where its larger half is smallest: a prefix that both halves need counts
/// twice.
void split_largest(const EncodedDataset& dataset, SharedPrefix shared_prefix, MicroBatches& batches) {
  size_t largest = batches.size();
  int64_t most = -1;
  for (size_t i = 0; i < batches.size(); ++i) {
    const int64_t tokens = count_tokens(dataset, batches[i], shared_prefix);
    if (batches[i].size() >= 2 && tokens > most) {
      largest = i;
      most = tokens;
    }
  }
  std::vector<int64_t>& rows = batches.at(largest);
  const auto before = running_tokens(dataset, rows, shared_prefix);
  const std::vector<int64_t> backwards(rows.rbegin(), rows.rend());
  const auto after = running_tokens(dataset, backwards, shared_prefix);
  const auto larger_half = [&](size_t cut) { return std::max(before[cut], after[rows.size() - cut]); };
  size_t best = 1;
  for (size_t cut = 2; cut < rows.size(); ++cut)
    if (larger_half(cut) < larger_half(best)) best = cut;
  std::vector<int64_t> second(rows.begin() + static_cast<std::ptrdiff_t>(best), rows.end());
  rows.resize(best);
  batches.insert(batches.begin() + static_cast<std::ptrdiff_t>(largest) + 1, std::move(second));
}

/// The epoch's permutation with rows of one prefix gathered into runs, and the runs in an order of their own.
std::vector<int64_t> gather_runs(const StepPlan& plan, std::span<const int64_t> order, int64_t epoch) {
  MicroBatches runs;
  std::unordered_map<int32_t, size_t> open_run;  // of a prefix: index of the run that still has room
  for (const int64_t row : order) {
    const int32_t prefix = plan.prefix_of_row[static_cast<size_t>(row)];
    const auto open = open_run.find(prefix);
    if (prefix >= 0 && open != open_run.end()) {
      runs[open->second].push_back(row);
      if (static_cast<int64_t>(runs[open->second].size()) == plan.rows_together) open_run.erase(open);
      continue;
    }
    if (prefix >= 0) open_run.emplace(prefix, runs.size());
    runs.push_back({row});
  }
  std::vector<int64_t> out;
  out.reserve(order.size());
  // The bits are flipped so that this stream is not the one that made `order`.
  for (const int64_t run : permutation(static_cast<int64_t>(runs.size()), ~plan.seed, static_cast<uint64_t>(epoch))) {
    const auto& rows = runs[static_cast<size_t>(run)];
    out.insert(out.end(), rows.begin(), rows.end());
  }
  return out;
}

void check_plan(const StepPlan& plan) {
  require(plan.num_rows > 0 && plan.batch_size > 0, ErrorKind::Internal, "plan of {} rows in batches of {}",
          plan.num_rows, plan.batch_size);
  require(plan.rows_together == 1 ||
              (plan.rows_together > 1 && static_cast<int64_t>(plan.prefix_of_row.size()) == plan.num_rows),
          ErrorKind::Internal, "{} rows together, with the prefixes of {} of {} rows", plan.rows_together,
          plan.prefix_of_row.size(), plan.num_rows);
}

/// Appends one segment; tokens before `shared_len` take the prefix's hash as their dropout key.
struct SegmentWriter {
  PackedBatch& out;

  int32_t add(std::span<const int32_t> ids, int64_t first_position, int32_t prefix_segment, int64_t row, uint64_t hash,
              int64_t shared_len) {
    require(out.tokens.size() + ids.size() <= static_cast<size_t>(std::numeric_limits<int32_t>::max()),
            ErrorKind::Internal, "a packed batch of more than 2^31 tokens");
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool shared = static_cast<int64_t>(i) < shared_len;
      out.tokens.push_back(ids[i]);
      out.positions.push_back(static_cast<int32_t>(first_position + static_cast<int64_t>(i)));
      out.dropout_key.push_back(shared ? hash : static_cast<uint64_t>(row));
    }
    out.segment_offsets.push_back(static_cast<int32_t>(out.tokens.size()));
    out.prefix_of_segment.push_back(prefix_segment);
    out.row_of_segment.push_back(row);
    out.prefix_hash_of_segment.push_back(hash);
    return static_cast<int32_t>(out.prefix_of_segment.size()) - 1;
  }
};

}  // namespace

void PackedBatch::clear() {
  tokens.clear();
  positions.clear();
  segment_offsets.assign(1, 0);
  prefix_of_segment.clear();
  row_of_segment.clear();
  prefix_hash_of_segment.clear();
  dropout_key.clear();
  target_rows.clear();
  target_ids.clear();
}

StepPlan make_plan(const EncodedDataset& dataset, int64_t batch_size, uint64_t seed, int64_t rows_together) {
  StepPlan plan{.num_rows = dataset.size(), .batch_size = batch_size, .seed = seed, .rows_together = rows_together};
  for (int64_t i = 0; i < dataset.size(); ++i) plan.prefix_of_row.push_back(dataset.prefix_id(i));
  return plan;
}

int64_t steps_per_epoch(const StepPlan& plan) {
  check_plan(plan);
  return (plan.num_rows + plan.batch_size - 1) / plan.batch_size;
}

std::vector<int64_t> plan_step(const StepPlan& plan, int64_t epoch, int64_t step) {
  require(epoch >= 0 && step >= 0 && step < steps_per_epoch(plan), ErrorKind::Internal, "step {} of epoch {}", step,
          epoch);
  auto order = permutation(plan.num_rows, plan.seed, static_cast<uint64_t>(epoch));
  if (plan.rows_together > 1) order = gather_runs(plan, order, epoch);
  const int64_t begin = step * plan.batch_size;
  const int64_t end = std::min(begin + plan.batch_size, plan.num_rows);
  return {order.begin() + begin, order.begin() + end};
}

MicroBatches cut_into_micro_batches(const EncodedDataset& dataset, std::span<const int64_t> rows,
                                    const CutOptions& options) {
  require(options.max_tokens > 0 && options.world > 0, ErrorKind::Internal, "micro-batches of {} tokens for {} ranks",
          options.max_tokens, options.world);
  if (rows.empty()) return {};
  const auto ordered = grouped_by_prefix(dataset, rows);
  MicroBatches out = cut_greedily(dataset, ordered, options.max_tokens, options.shared_prefix);
  const auto world = static_cast<size_t>(options.world);  // a multiple: no rank has one more to compute
  const size_t wanted = std::min((out.size() + world - 1) / world * world, rows.size());
  out = cut_evenly(dataset, ordered, std::move(out), options, wanted);
  while (out.size() < wanted) split_largest(dataset, options.shared_prefix, out);
  return out;
}

std::vector<int64_t> deal_to_rank(int64_t num_micro_batches, int64_t rank, int64_t world) {
  require(rank >= 0 && rank < world, ErrorKind::Internal, "rank {} of {}", rank, world);
  std::vector<int64_t> out;
  for (int64_t i = rank; i < num_micro_batches; i += world) out.push_back(i);
  return out;
}

int64_t count_tokens(const EncodedDataset& dataset, std::span<const int64_t> rows, SharedPrefix shared_prefix) {
  TokenCounter counter(dataset, shared_prefix);
  for (const int64_t row : rows) counter.add(row);
  return counter.tokens();
}

int64_t count_targets(const EncodedDataset& dataset, std::span<const int64_t> rows) {
  int64_t out = 0;
  for (const int64_t row : rows) out += dataset.num_targets(row);
  return out;
}

PackedBatch pack(const EncodedDataset& dataset, std::span<const int64_t> rows, SharedPrefix shared_prefix) {
  PackedBatch out;
  pack_into(dataset, rows, shared_prefix, out);
  return out;
}

void pack_into(const EncodedDataset& dataset, std::span<const int64_t> rows, SharedPrefix shared_prefix,
               PackedBatch& out) {
  out.clear();
  SegmentWriter writer{out};
  std::unordered_map<int32_t, int32_t> segment_of_prefix;
  for (const int64_t row : rows) {
    const int32_t prefix = dataset.prefix_id(row);
    const int64_t prefix_len = dataset.prefix_len(row);
    const uint64_t hash = prefix >= 0 ? dataset.prefix_hash(prefix) : 0;
    int64_t own_begin = 0;  // in the row
    int32_t prefix_segment = -1;
    if (prefix >= 0 && shared_prefix == SharedPrefix::On) {
      own_begin = prefix_len;
      const auto [it, is_new] = segment_of_prefix.try_emplace(prefix, -1);
      if (is_new) it->second = writer.add(dataset.prefix_ids(prefix), 0, -1, -1, hash, prefix_len);
      prefix_segment = it->second;
    }
    const auto ids = dataset.ids(row);
    const auto offset = static_cast<int64_t>(out.tokens.size());
    writer.add(ids.subspan(static_cast<size_t>(own_begin)), own_begin, prefix_segment, row, hash,
               prefix_len - own_begin);
    for (int64_t i = dataset.target_begin(row); i < static_cast<int64_t>(ids.size()); ++i) {
      out.target_rows.push_back(static_cast<int32_t>(offset + i - 1 - own_begin));
      out.target_ids.push_back(ids[static_cast<size_t>(i)]);
    }
  }
}

}  // namespace slmi::data
