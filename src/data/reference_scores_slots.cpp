// Slot values by look-up; see the header.
#include "reference_scores_slots.h"

#include <algorithm>
#include <vector>

#include "reference_scores_text.h"

namespace slmi::data {
namespace {

std::string key_of(const std::vector<TextToken>& tokens, size_t begin, size_t end) {
  std::string out;
  for (size_t i = begin; i < end; ++i) out += tokens[i].text + '\n';
  return out;
}

}  // namespace

void SlotValues::learn(std::string_view text, const Json& slots) {
  texts_.emplace_back(text);
  for (const auto& [name, value] : slots.items()) {
    const Json values = value.is_array() ? value : Json::array({value});
    for (const Json& item : values) {
      const auto tokens = tokenize_text(item.get<std::string>());
      if (tokens.empty()) continue;
      ++counts_[key_of(tokens, 0, tokens.size())][name];
      longest_ = std::max(longest_, tokens.size());
    }
  }
}

void SlotValues::finish() {
  std::unordered_map<std::string, int64_t> occurrences;  // of values in the texts, as a slot or not
  for (const auto& text : texts_) {
    const auto tokens = tokenize_text(text);
    for (size_t begin = 0; begin < tokens.size(); ++begin) {
      for (size_t end = begin + 1; end <= std::min(tokens.size(), begin + longest_); ++end) {
        const auto found = counts_.find(key_of(tokens, begin, end));
        if (found != counts_.end()) ++occurrences[found->first];
      }
    }
  }
  for (const auto& [key, slots] : counts_) {
    int64_t as_slot = 0;
    for (const auto& [slot, count] : slots) as_slot += count;
    if (2 * as_slot < occurrences[key]) continue;
    const auto most =
        std::max_element(slots.begin(), slots.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    slot_of_[key] = most->first;
  }
  counts_.clear();
  texts_.clear();
}

Json SlotValues::find(std::string_view text) const {
  const auto tokens = tokenize_text(text);
  std::vector<const std::string*> slot_at(tokens.size(), nullptr);  // of the value that begins here
  std::vector<size_t> end_at(tokens.size(), 0);
  std::vector<bool> taken(tokens.size(), false);
  for (size_t length = std::min(longest_, tokens.size()); length > 0; --length) {
    for (size_t begin = 0; begin + length <= tokens.size(); ++begin) {
      const auto first = taken.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = first + static_cast<std::ptrdiff_t>(length);
      if (std::find(first, last, true) != last) continue;
      const auto found = slot_of_.find(key_of(tokens, begin, begin + length));
      if (found == slot_of_.end()) continue;
      std::fill(first, last, true);
      slot_at[begin] = &found->second;
      end_at[begin] = begin + length;
    }
  }
  Json out = Json::object();
  for (size_t begin = 0; begin < tokens.size(); ++begin) {
    if (slot_at[begin] == nullptr) continue;
    const size_t from = tokens[begin].begin, to = tokens[end_at[begin] - 1].end;
    const std::string value(text.substr(from, to - from));
    Json& slot = out[*slot_at[begin]];
    if (slot.is_null())
      slot = value;
    else if (slot.is_string())
      slot = Json::array({slot, value});
    else
      slot.push_back(value);
  }
  return out;
}

}  // namespace slmi::data
