// Cuts the attention of a batch into parts of equal cost, and finds the key rows that several parts add gradients to.
#include <algorithm>
#include <numeric>

#include "attention_tiles.h"
#include "slmi/kernels/cpu/attention.h"

namespace slmi::kernels::cpu {

namespace {

/// Queries an item: as many as fill the tile of score rows, fewer if that left the parts with too few items to balance.
int64_t queries_per_item(const AttentionShape& shape, std::span<const AttentionSegment> segments, int num_parts) {
  constexpr int64_t kItemsPerPart = 6;  // then the last item costs a part at most a sixth more than its share
  constexpr int64_t kFewestQueries = 16;
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  const int64_t most = std::max<int64_t>(detail::kMaxItemRows / group, 1);
  int64_t queries = 0;
  for (const auto& s : segments) queries += s.q_len;
  const int64_t fair = queries * shape.num_kv_heads / (kItemsPerPart * num_parts);
  return std::clamp<int64_t>(fair, std::min(kFewestQueries, most), most);
}

/// Multiplications of an item in units of E, with packing a key counted as some rows more.
double cost(const AttentionShape& shape, std::span<const AttentionSegment> segments, const AttentionPlan::Item& item) {
  constexpr double kPackingRows = 16;
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  double sum = 0.0;
  for (int64_t i = 0; i < item.num_segments; ++i) {
    const auto& s = segments[static_cast<size_t>(item.segment + i)];
    const double before = static_cast<double>(s.prefix_len + s.own_len - s.q_len + item.query);
    sum += static_cast<double>(item.num_queries * group) * (before + 0.5 * static_cast<double>(item.num_queries + 1));
    if (item.packed && i == 0) sum += kPackingRows * (before + static_cast<double>(item.num_queries));
  }
  return sum;
}

/// Segments from `first` on that decode one token behind the same prefix: the keys of that are packed once for them
/// all.
int64_t decoding_run(std::span<const AttentionSegment> segments, size_t first) {
  const auto& head = segments[first];
  if (head.q_len != 1 || head.prefix_len == 0) return 1;
  size_t end = first + 1;
  while (end < segments.size() && segments[end].q_len == 1 && segments[end].prefix_begin == head.prefix_begin &&
         segments[end].prefix_len == head.prefix_len) {
    ++end;
  }
  return static_cast<int64_t>(end - first);
}

}  // namespace

AttentionPlan::AttentionPlan(const AttentionShape& shape, std::span<const AttentionSegment> segments, int num_parts,
                             AttentionPasses passes)
    : shape_(shape), segments_(segments.begin(), segments.end()), num_parts_(std::max(num_parts, 1)) {
  const int64_t block = queries_per_item(shape, segments, num_parts_);
  for (size_t i = 0; i < segments.size();) {
    const int64_t run = passes == AttentionPasses::ForwardOnly ? decoding_run(segments, i) : 1;
    add_items(static_cast<int64_t>(i), run, block);
    i += static_cast<size_t>(run);
  }
  std::vector<double> costs_before = {0.0};
  for (const Item& item : items_) costs_before.push_back(costs_before.back() + cost(shape, segments, item));
  part_begin_.push_back(0);
  for (int p = 1; p < num_parts_; ++p) {
    const double wanted = costs_before.back() * p / num_parts_;
    auto at = std::lower_bound(costs_before.begin(), costs_before.end(), wanted);
    if (at != costs_before.begin() && wanted - at[-1] < *at - wanted) --at;
    part_begin_.push_back(std::max<int64_t>(part_begin_.back(), at - costs_before.begin()));
  }
  part_begin_.push_back(static_cast<int64_t>(items_.size()));
  if (passes == AttentionPasses::ForwardAndBackward) find_shared_rows();
}

void AttentionPlan::add_items(int64_t segment, int64_t run, int64_t block) {
  const int64_t queries = segments_[static_cast<size_t>(segment)].q_len * run;
  const bool packed = queries * (shape_.num_heads / shape_.num_kv_heads) > detail::kFewRows;
  const int64_t num_blocks = (queries + block - 1) / block;  // equal blocks rather than full ones and a rest
  for (int64_t head = 0; head < shape_.num_kv_heads; ++head) {
    for (int64_t b = 0; b < num_blocks; ++b) {
      const int64_t first = queries * b / num_blocks, count = queries * (b + 1) / num_blocks - first;
      Item item = {};
      item.segment = static_cast<int32_t>(run > 1 ? segment + first : segment);
      item.num_segments = static_cast<int32_t>(run > 1 ? count : 1);
      item.kv_head = static_cast<int32_t>(head);
      item.query = static_cast<int32_t>(run > 1 ? 0 : first);
      item.num_queries = static_cast<int32_t>(run > 1 ? 1 : count);
      item.packed = packed;
      items_.push_back(item);
    }
  }
}

void AttentionPlan::find_shared_rows() {
  int64_t num_rows = 0;
  for (const auto& s : segments_) {
    num_rows = std::max({num_rows, s.prefix_begin + s.prefix_len, s.own_begin + s.own_len});
  }
  constexpr int32_t kNone = -1, kSeveral = -2;
  std::vector<int32_t> part_of_row(static_cast<size_t>(num_rows), kNone);
  const auto mark = [&](int64_t row, int64_t count, int32_t part) {
    for (int64_t r = row; r < row + count; ++r) {
      int32_t& owner = part_of_row[static_cast<size_t>(r)];
      owner = owner == kNone || owner == part ? part : kSeveral;
    }
  };
  for (int32_t p = 0; p < num_parts_; ++p) {
    int32_t last = -1;  // items of a segment follow each other: mark it once a part
    for (const Item& item : items(p)) {
      if (item.segment == last) continue;
      last = item.segment;
      const auto& s = segments_[static_cast<size_t>(last)];
      mark(s.prefix_begin, s.prefix_len, p);
      mark(s.own_begin, s.own_len, p);
    }
  }
  slot_of_row_.assign(static_cast<size_t>(num_rows), -1);
  for (int64_t r = 0; r < num_rows; ++r) {
    if (part_of_row[static_cast<size_t>(r)] != kSeveral) continue;
    slot_of_row_[static_cast<size_t>(r)] = static_cast<int32_t>(shared_rows_.size());
    shared_rows_.push_back(static_cast<int32_t>(r));
  }
}

std::span<const AttentionPlan::Item> AttentionPlan::items(int part) const {
  const auto first = static_cast<size_t>(part_begin_[static_cast<size_t>(part)]);
  const auto last = static_cast<size_t>(part_begin_[static_cast<size_t>(part) + 1]);
  return std::span<const Item>(items_).subspan(first, last - first);
}

size_t AttentionPlan::scratch_bytes() const {
  return detail::attention_scratch_floats(shape_) * sizeof(float) + detail::kScratchAlignment;
}

int64_t AttentionPlan::partials_size() const {
  return num_parts_ * num_shared_rows() * 2 * shape_.num_kv_heads * shape_.head_dim;
}

}  // namespace slmi::kernels::cpu
