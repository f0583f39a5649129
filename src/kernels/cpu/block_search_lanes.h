// The searches of block_search.h, written once for every level: each lane works on a sub-block of its own, so that sums
// keep the order of elements and all levels have the same bits. Include vec_scalar.h or vec.h first, and this once a
// level: it defines functions.
#pragma once

#include "levels.h"
#include "search_lanes.h"

namespace slmi::kernels::cpu::detail {
namespace SLMI_LEVEL_NAMESPACE {

static_assert(kMaxSubBlocks % kLanes == 0);

/// Below this a sub-block counts as zeros (ggml's GROUP_MAX_EPS).
inline constexpr float kLeastMagnitude = 1e-15f;

/// kLanes sub-blocks, element by element: x of element i of all lanes at x + i * kLanes. Lanes without a sub-block hold
/// zeros.
struct Tile {
  alignas(64) float x[kMaxSubBlockSize * kLanes];
  alignas(64) float w[kMaxSubBlockSize * kLanes];
  alignas(64) float codes[kMaxSubBlockSize * kLanes];
  F weight;  // sum of w
  int64_t size;
};

inline F weight_of(const SubBlocks& in, F x, F importance, F sigma2, F rms) {
  switch (in.weighting) {
    case Weighting::Magnitude:
      return abs(x);
    case Weighting::RmsPlusMagnitude:
      return add(rms, abs(x));
    case Weighting::Square:
      return mul(x, x);
    case Weighting::Importance:
      return importance;
    case Weighting::ImportanceAndSize:
      break;
  }
  return mul(importance, sqrt(add(sigma2, mul(x, x))));
}

/// Sub-blocks first .. first + kLanes - 1 and their weights.
inline void fill(const SubBlocks& in, int64_t first, Tile& t) {
  const int64_t rows = in.count - first < kLanes ? in.count - first : kLanes;
  t.size = in.size;
  transpose(in.x + first * in.size, in.size, rows, in.size, t.x);
  const bool weighed = in.importance != nullptr;
  if (weighed) transpose(in.importance + first * in.size, in.size, rows, in.size, t.w);
  F rms = zero();
  if (in.weighting == Weighting::RmsPlusMagnitude) {
    for (int64_t i = 0; i < t.size; ++i) rms = add(rms, mul(load(t.x + i * kLanes), load(t.x + i * kLanes)));
    rms = sqrt(div(rms, all(static_cast<float>(t.size))));
  }
  alignas(64) float sigma2[kLanes] = {};
  for (int64_t lane = 0; lane < rows && in.sigma2 != nullptr; ++lane) sigma2[lane] = in.sigma2[first + lane];
  t.weight = zero();
  for (int64_t i = 0; i < t.size; ++i) {
    const F importance = weighed ? load(t.w + i * kLanes) : zero();
    const F w = weight_of(in, load(t.x + i * kLanes), importance, load(sigma2), rms);
    store(t.w + i * kLanes, w);
    t.weight = add(t.weight, w);
  }
}

// ---- affine

/// What the weighted least-squares line through the points (code, x) is made of.
struct CodeSums {
  F l, ll, xl;  // sums of w * code, w * code^2, w * code * x
};

inline CodeSums affine_codes(Tile& t, F code_scale, F base, F max_code) {
  CodeSums sums{zero(), zero(), zero()};
  for (int64_t i = 0; i < t.size; ++i) {
    const F x = load(t.x + i * kLanes);
    const F code = clamp(round_even(mul(code_scale, sub(x, base))), zero(), max_code);
    store(t.codes + i * kLanes, code);
    const F wl = mul(load(t.w + i * kLanes), code);
    sums.l = add(sums.l, wl);
    sums.ll = add(sums.ll, mul(wl, code));
    sums.xl = add(sums.xl, mul(wl, x));
  }
  return sums;
}

template <ErrorNorm kNorm>
inline F affine_error(const Tile& t, F scale, F base) {
  F error = zero();
  for (int64_t i = 0; i < t.size; ++i) {
    const F difference = sub(add(mul(scale, load(t.codes + i * kLanes)), base), load(t.x + i * kLanes));
    const F size = kNorm == ErrorNorm::Magnitude ? abs(difference) : mul(difference, difference);
    error = add(error, mul(load(t.w + i * kLanes), size));
  }
  return error;
}

/// Lowest and highest value, the lowest at most 0; and sum of w * x.
struct Range {
  F low, high, wx;
};

inline Range range_of(const Tile& t) {
  Range r{load(t.x), load(t.x), mul(load(t.w), load(t.x))};
  for (int64_t i = 1; i < t.size; ++i) {
    const F x = load(t.x + i * kLanes);
    r.low = min(x, r.low);
    r.high = max(x, r.high);
    r.wx = add(r.wx, mul(load(t.w + i * kLanes), x));
  }
  r.low = select(less(zero(), r.low), zero(), r.low);
  return r;
}

struct AffineLanes {
  F scale, base, error, code_scale, code_base;
};

template <ErrorNorm kNorm>
inline void try_affine(Tile& t, const Range& range, F numerator, F max_code, AffineLanes& best) {
  const F code_scale = div(numerator, sub(range.high, best.base));
  const CodeSums s = affine_codes(t, code_scale, best.base, max_code);
  const F determinant = sub(mul(t.weight, s.ll), mul(s.l, s.l));
  F scale = div(sub(mul(t.weight, s.xl), mul(range.wx, s.l)), determinant);
  F base = div(sub(mul(s.ll, range.wx), mul(s.l, s.xl)), determinant);
  const M above = less(zero(), base);  // a minimum is stored with its sign turned, as a number >= 0
  base = select(above, zero(), base);
  scale = select(above, div(s.xl, s.ll), scale);
  const F error = affine_error<kNorm>(t, scale, base);
  const M better = both(less(zero(), determinant), less(error, best.error));
  best.error = select(better, error, best.error);
  best.scale = select(better, scale, best.scale);
  best.code_scale = select(better, code_scale, best.code_scale);
  best.code_base = select(better, best.base, best.code_base);
  best.base = select(better, base, best.base);  // the next candidate starts from here
}

template <ErrorNorm kNorm>
inline AffineLanes affine_lanes(Tile& t, const AffineGrid& grid) {
  const Range range = range_of(t);
  const F max_code = all(static_cast<float>(grid.max_code));
  AffineLanes best;
  best.base = best.code_base = range.low;
  best.code_scale = div(max_code, sub(range.high, range.low));
  best.scale = div(all(1.0f), best.code_scale);
  affine_codes(t, best.code_scale, range.low, max_code);
  best.error = affine_error<kNorm>(t, best.scale, range.low);
  for (int i = 0; i <= grid.last; ++i) {
    const float numerator = grid.first + grid.step * static_cast<float>(i) + static_cast<float>(grid.max_code);
    try_affine<kNorm>(t, range, all(numerator), max_code, best);
  }
  const M varies = less(range.low, range.high);
  const M finite = less(best.code_scale, all(__builtin_inff()));  // not so for subnormal ranges: ggml's codes become 0
  best.scale = select(varies, best.scale, zero());
  best.code_scale = select(both(varies, finite), best.code_scale, zero());
  best.base = select(varies, best.base, range.low);
  best.code_base = select(varies, best.code_base, range.low);
  return best;
}

// ---- symmetric

inline ProductSums symmetric_codes(Tile& t, F code_scale, F lowest, F highest) {
  ProductSums sums{zero(), zero()};
  for (int64_t i = 0; i < t.size; ++i) {
    const F x = load(t.x + i * kLanes), w = load(t.w + i * kLanes);
    const F code = clamp(round_even(mul(code_scale, x)), lowest, highest);
    store(t.codes + i * kLanes, code);
    sums.xl = add(sums.xl, mul(mul(w, x), code));
    sums.ll = add(sums.ll, mul(mul(w, code), code));
  }
  return sums;
}

struct SymmetricLanes {
  F scale, code_scale;
};

inline SymmetricLanes symmetric_lanes(Tile& t, int levels) {
  const F extreme = extreme_of(t.x, t.size);
  const F lowest = all(static_cast<float>(-levels)), highest = all(static_cast<float>(levels - 1));
  SymmetricLanes best;
  best.code_scale = div(lowest, extreme);
  const ProductSums first = symmetric_codes(t, best.code_scale, lowest, highest);
  best.scale = select(less(zero(), first.ll), div(first.xl, first.ll), zero());
  F gain = mul(best.scale, first.xl);
  for (int i = -9; i <= 9; ++i) {
    if (i == 0) continue;
    const F code_scale = div(all(-(static_cast<float>(levels) + 0.1f * static_cast<float>(i))), extreme);
    const ProductSums s = symmetric_codes(t, code_scale, lowest, highest);
    const M better = both(less(zero(), s.ll), less(mul(gain, s.ll), mul(s.xl, s.xl)));
    best.scale = select(better, div(s.xl, s.ll), best.scale);
    best.code_scale = select(better, code_scale, best.code_scale);
    gain = select(better, mul(best.scale, s.xl), gain);
  }
  const M nothing = less(abs(extreme), all(kLeastMagnitude));
  best.scale = select(nothing, zero(), best.scale);
  best.code_scale = select(nothing, zero(), best.code_scale);
  return best;
}

// ---- descent

/// One round over the elements; true if a code of any lane moved.
inline bool descend(Tile& t, F lowest, F highest, ProductSums& sums) {
  bool moved = false;
  for (int64_t i = 0; i < t.size; ++i) {
    const F x = load(t.x + i * kLanes), w = load(t.w + i * kLanes), old = load(t.codes + i * kLanes);
    const F wx = mul(w, x);
    const F xl = sub(sums.xl, mul(wx, old)), ll = sub(sums.ll, mul(mul(w, old), old));  // without this element
    const F code = clamp(round_even(div(mul(x, ll), xl)), lowest, highest);
    const F new_xl = add(xl, mul(wx, code)), new_ll = add(ll, mul(mul(w, code), code));
    const M gains = less(mul(mul(sums.xl, sums.xl), new_ll), mul(mul(new_xl, new_xl), sums.ll));
    const M move = both(both(less(zero(), xl), less(zero(), new_ll)), both(gains, less(zero(), abs(sub(code, old)))));
    store(t.codes + i * kLanes, select(move, code, old));
    sums.xl = select(move, new_xl, sums.xl);
    sums.ll = select(move, new_ll, sums.ll);
    moved = moved || any(move);
  }
  return moved;
}

/// The scale; the codes stay in the tile.
inline F descent_lanes(Tile& t, int levels) {
  constexpr int kRounds = 5;
  const F extreme = extreme_of(t.x, t.size);
  const F lowest = all(static_cast<float>(-levels)), highest = all(static_cast<float>(levels - 1));
  ProductSums sums = symmetric_codes(t, div(lowest, extreme), lowest, highest);
  for (int round = 0; round < kRounds && descend(t, lowest, highest, sums); ++round) {
  }
  const M nothing = less(abs(extreme), all(kLeastMagnitude));
  for (int64_t i = 0; i < t.size; ++i) store(t.codes + i * kLanes, select(nothing, lowest, load(t.codes + i * kLanes)));
  const F scale = select(less(zero(), sums.ll), div(sums.xl, sums.ll), zero());
  return select(nothing, zero(), scale);
}

}  // namespace SLMI_LEVEL_NAMESPACE

template <>
void BlockSearch<kLevel>::affine(const SubBlocks& in, const AffineGrid& grid, AffineFit& out) {
  Tile t;
  for (int64_t first = 0; first < in.count; first += kLanes) {
    fill(in, first, t);
    const AffineLanes best = grid.norm == ErrorNorm::Square ? affine_lanes<ErrorNorm::Square>(t, grid)
                                                            : affine_lanes<ErrorNorm::Magnitude>(t, grid);
    store(out.scale + first, best.scale);
    store(out.minimum + first, sub(all(-0.0f), best.base));  // -0 - x turns the sign, of zeros too
    store(out.weight + first, t.weight);
    store(out.code_scale + first, best.code_scale);
    store(out.code_base + first, best.code_base);
  }
}

template <>
void BlockSearch<kLevel>::symmetric(const SubBlocks& in, int levels, SymmetricFit& out) {
  Tile t;
  for (int64_t first = 0; first < in.count; first += kLanes) {
    fill(in, first, t);
    const SymmetricLanes best = symmetric_lanes(t, levels);
    store(out.scale + first, best.scale);
    store(out.weight + first, t.weight);
    store(out.code_scale + first, best.code_scale);
  }
}

template <>
void BlockSearch<kLevel>::descent(const SubBlocks& in, int levels, SymmetricFit& out, int8_t* codes) {
  Tile t;
  for (int64_t first = 0; first < in.count; first += kLanes) {
    fill(in, first, t);
    store(out.scale + first, descent_lanes(t, levels));
    store(out.weight + first, t.weight);
    for (int64_t lane = 0; lane < kLanes && first + lane < in.count; ++lane) {
      for (int64_t i = 0; i < in.size; ++i) {
        codes[(first + lane) * in.size + i] = static_cast<int8_t>(t.codes[i * kLanes + lane]);
      }
    }
  }
}

template <>
void BlockSearch<kLevel>::round(const float* x, int64_t count, int64_t size, const float* step, const float* offset,
                                CodeRange range, uint8_t* codes) {
  const F lowest = all(static_cast<float>(range.lowest)), highest = all(static_cast<float>(range.highest));
  alignas(64) float rounded[kMaxSubBlockSize];
  for (int64_t j = 0; j < count; ++j) {
    if (step[j] == 0.0f) continue;
    for (int64_t i = 0; i < size; i += kLanes) {
      const F code = round_even(div(add(load(x + j * size + i), all(offset[j])), all(step[j])));
      store(rounded + i, sub(clamp(code, lowest, highest), lowest));
    }
    for (int64_t i = 0; i < size; ++i) codes[j * size + i] = static_cast<uint8_t>(rounded[i]);
  }
}

}  // namespace slmi::kernels::cpu::detail
