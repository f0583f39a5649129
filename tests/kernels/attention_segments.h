// What the attention tests share: shapes, packed segments, guarded scratch.
#pragma once

#include <vector>

#include "slmi/kernels/cpu/attention.h"
#include "test_support.h"

namespace slmi::kernels::cpu {

inline AttentionShape shape_of(int64_t h, int64_t hk, int64_t e) {
  return {h, hk, e, static_cast<float>(1.0 / std::sqrt(static_cast<double>(e)))};
}

/// Rows [0, p) are a prefix that is itself a segment; `lengths` follow, each seeing it.
inline std::vector<AttentionSegment> with_prefix(int64_t p, const std::vector<int64_t>& lengths) {
  std::vector<AttentionSegment> out;
  if (p > 0) out.push_back({0, p, 0, 0, 0, p});
  int64_t at = p;
  for (const int64_t n : lengths) {
    out.push_back({at, n, 0, p, at, n});
    at += n;
  }
  return out;
}

/// Scratch between guards, full of NaN: nothing may be read before it is written.
class Scratch {
 public:
  explicit Scratch(const AttentionPlan& plan) : bytes_(static_cast<int64_t>(plan.scratch_bytes() + 1)) {}
  std::byte* data() { return reinterpret_cast<std::byte*>(bytes_.data() + 1); }  // on an odd address
  bool intact() const { return bytes_.guards_intact(); }

 private:
  struct Byte {
    uint8_t x;
  };
  Guarded<Byte> bytes_;
};

}  // namespace slmi::kernels::cpu
