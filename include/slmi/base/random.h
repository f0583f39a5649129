// Random numbers that give the same values on every platform: a counter-based generator and a sequential one.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace slmi {

/// One block of Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): 128 random bits that
/// depend on (counter, key) alone. Used wherever a value must not depend on the order in which values are drawn.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// SplitMix64 (Steele et al. 2014): one step, also a good 64-bit mixing function.
uint64_t splitmix64(uint64_t& state);

/// Sequential generator, xoshiro256** (Blackman & Vigna 2018), seeded through SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t next();
  /// Uniform integer in [0, bound), bound > 0, without modulo bias (Lemire 2019, with rejection).
  uint64_t below(uint64_t bound);
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Standard normal (Box-Muller; one value a call).
  double normal();
  /// Fisher-Yates.
  template <class T>
  void shuffle(std::span<T> values) {
    for (uint64_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  std::array<uint64_t, 4> state_;
};

/// 0 .. n-1 in an order that depends on (seed, stream) alone, e.g. (run seed, epoch).
std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t stream);

}  // namespace slmi
