// Slot values of the training rows, looked up in a text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "slmi/base/json.h"

namespace slmi::data {

/// The slot values of one intent.
class SlotValues {
 public:
  /// Learns the values of one row: `slots` maps names to strings or arrays of strings.
  void learn(std::string_view text, const Json& slots);
  /// Call once, after the last row. Fixes which slot each value is (the one that it most often was, of equals the first
  /// by name), and drops values that stand in the texts more often without being a slot than as one ("the").
  void finish();
  /// Values found in the text as whole tokens, case ignored: longest first (in tokens; of equals the leftmost), without
  /// overlap. Slots in the order in which they occur, in the text's own spelling; several values of one slot: an array.
  Json find(std::string_view text) const;

 private:
  std::unordered_map<std::string, std::map<std::string, int64_t>> counts_;  // value's tokens -> slot -> how often
  std::vector<std::string> texts_;                                          // empty after finish()
  std::unordered_map<std::string, std::string> slot_of_;
  size_t longest_ = 0;  // tokens
};

}  // namespace slmi::data
