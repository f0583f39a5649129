// Buffers with guard words, random values and error measures for the kernel tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "slmi/base/half.h"
#include "slmi/base/random.h"
#include "slmi/kernels/cpu/simd.h"
#include "slmi/kernels/cpu/types.h"

namespace slmi::kernels::cpu {

inline float to_float(float x) {
  return x;
}
inline float to_float(Bf16 x) {
  return bf16_to_f32(x.bits);
}
template <class T>
T from_float(float x) {
  if constexpr (sizeof(T) == 4) {
    return x;
  } else {
    return Bf16{f32_to_bf16(x)};
  }
}

/// Greatest relative error of one rounding to nearest.
template <class T>
constexpr double unit_roundoff() {
  return sizeof(T) == 4 ? 0x1p-24 : 0x1p-8;
}

/// A buffer between guard words, filled with the guard pattern (a NaN in either type), so that what a kernel does not
/// write, or reads without having written, shows.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t n) : bytes_(static_cast<size_t>(n) * sizeof(T) + 2 * kGuard, kPattern), n_(n) {}
  T* data() { return reinterpret_cast<T*>(bytes_.data() + kGuard); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data() + kGuard); }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }
  int64_t size() const { return n_; }
  bool guards_intact() const {
    const auto whole = [](uint8_t b) { return b == kPattern; };
    return std::all_of(bytes_.begin(), bytes_.begin() + kGuard, whole) &&
           std::all_of(bytes_.end() - kGuard, bytes_.end(), whole);
  }
  /// True if element i was never written.
  bool untouched(int64_t i) const {
    const auto* p = reinterpret_cast<const uint8_t*>(data() + i);
    return std::all_of(p, p + sizeof(T), [](uint8_t b) { return b == kPattern; });
  }
  void fill(float x) {
    for (int64_t i = 0; i < n_; ++i) data()[i] = from_float<T>(x);
  }

 private:
  static constexpr int64_t kGuard = 64;
  static constexpr uint8_t kPattern = 0xff;
  std::vector<uint8_t> bytes_;
  int64_t n_;
};

/// Rows of normal values times `scale`; what lies between width and stride stays guard pattern.
template <class T>
Guarded<T> random_rows(int64_t rows, int64_t width, int64_t stride, uint64_t seed, double scale = 1.0) {
  Guarded<T> out(rows * stride);
  Random random(seed);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c)
      out[r * stride + c] = from_float<T>(static_cast<float>(scale * random.normal()));
  }
  return out;
}

/// True if all that lies between width and stride is untouched and the guards are whole.
template <class T>
::testing::AssertionResult only_rows_written(const Guarded<T>& x, int64_t width, int64_t stride) {
  if (!x.guards_intact()) return ::testing::AssertionFailure() << "guard words overwritten";
  for (int64_t i = 0; i < x.size(); ++i) {
    if (i % stride >= width && !x.untouched(i)) {
      return ::testing::AssertionFailure() << "padding written at row " << i / stride << " column " << i % stride;
    }
    if (i % stride < width && x.untouched(i)) {
      return ::testing::AssertionFailure() << "not written: row " << i / stride << " column " << i % stride;
    }
  }
  return ::testing::AssertionSuccess();
}

template <class T>
::testing::AssertionResult equal_bits(const Guarded<T>& got, const Guarded<T>& want) {
  for (int64_t i = 0; i < want.size(); ++i) {
    if (std::memcmp(&got[i], &want[i], sizeof(T)) != 0) {
      return ::testing::AssertionFailure()
             << "element " << i << ": got " << to_float(got[i]) << ", want " << to_float(want[i]);
    }
  }
  return ::testing::AssertionSuccess();
}

inline std::string level_name(SimdLevel level) {
  return level == SimdLevel::Avx512 ? "Avx512" : level == SimdLevel::Avx2 ? "Avx2" : "Scalar";
}

/// Test body for each level and both element types: `RUN(level, type)` comes from the suite below.
class LevelTest : public ::testing::TestWithParam<SimdLevel> {
 protected:
  void SetUp() override {
    if (GetParam() > detect_simd().level) GTEST_SKIP() << "this CPU lacks " << level_name(GetParam());
  }
};

inline const auto kAllLevels = ::testing::Values(SimdLevel::Scalar, SimdLevel::Avx2, SimdLevel::Avx512);
inline std::string print_level(const ::testing::TestParamInfo<SimdLevel>& info) {
  return level_name(info.param);
}

/// Widths around every vector and unroll boundary, and the real ones.
inline const std::vector<int64_t>& test_widths() {
  static const std::vector<int64_t> widths = {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 576, 1536};
  return widths;
}

}  // namespace slmi::kernels::cpu
