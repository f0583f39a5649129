// Shared by the tests of quant: golden files, guarded buffers, comparison by bits.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "slmi/base/random.h"
#include "slmi/kernels/cpu/simd.h"

namespace slmi::test {

/// A golden file: `key hex` lines, written by the script beside it.
class Golden {
 public:
  explicit Golden(const std::string& name, const std::string& module = "quant") {
    const std::string path = std::string(SLMI_SOURCE_DIR) + "/tests/" + module + "/golden/" + name;
    std::ifstream in(path);
    if (!in) throw std::runtime_error("cannot open " + path);
    std::string line;
    while (std::getline(in, line)) {
      const size_t space = line.find(' ');
      if (line.empty() || line[0] == '#' || space == std::string::npos) continue;
      hex_[line.substr(0, space)] = line.substr(space + 1);
    }
  }
  /// The hex digits as stored.
  const std::string& hex(const std::string& key) const { return hex_.at(key); }
  template <class T>
  std::vector<T> values(const std::string& key) const {
    const std::string& digits = hex(key);
    if (digits.size() % (2 * sizeof(T)) != 0) throw std::runtime_error(key + ": wrong number of digits");
    std::vector<T> out(digits.size() / (2 * sizeof(T)));
    auto* bytes = reinterpret_cast<unsigned char*>(out.data());
    for (size_t i = 0; i < digits.size() / 2; ++i) {
      bytes[i] = static_cast<unsigned char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
    }
    return out;
  }

 private:
  std::map<std::string, std::string> hex_;
};

inline uint32_t bits_of(float value) {
  return std::bit_cast<uint32_t>(value);
}
inline uint32_t bits_of(uint16_t value) {
  return value;
}
inline bool is_nan(float value) {
  return std::isnan(value);
}
inline bool is_nan(uint16_t bf16) {
  return (bf16 & 0x7fffu) > 0x7f80u;
}

/// Equal bits everywhere, any NaN equal to any other; the first difference is named.
template <class T>
testing::AssertionResult equal_bits(std::span<const T> got, std::span<const T> want) {
  if (got.size() != want.size()) {
    return testing::AssertionFailure() << got.size() << " values, expected " << want.size();
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, uint16_t>) {
      if (is_nan(got[i]) && is_nan(want[i])) continue;
      if (bits_of(got[i]) == bits_of(want[i])) continue;
    } else {
      if (got[i] == want[i]) continue;
    }
    return testing::AssertionFailure() << "value " << i << ": " << +got[i] << ", expected " << +want[i];
  }
  return testing::AssertionSuccess();
}
template <class T>
testing::AssertionResult equal_bits(const std::vector<T>& got, const std::vector<T>& want) {
  return equal_bits(std::span<const T>(got), std::span<const T>(want));
}

/// rows x stride values between two fences, all preset to a pattern, so that writes outside of [row, row + k) show.
template <class T>
class GuardedRows {
 public:
  GuardedRows(int64_t rows, int64_t k, int64_t stride)
      : rows_(rows), k_(k), stride_(stride), data_(static_cast<size_t>(rows * stride) + 2 * kFence, kPattern) {}
  T* data() { return data_.data() + kFence; }
  std::span<const T> row(int64_t r) const {
    return std::span<const T>(data_).subspan(kFence + static_cast<size_t>(r * stride_), static_cast<size_t>(k_));
  }
  /// True if nothing was written but the k values of each row.
  bool guards_intact() const {
    for (size_t i = 0; i < data_.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) - static_cast<int64_t>(kFence);
      const bool payload = at >= 0 && at / stride_ < rows_ && at % stride_ < k_;
      if (!payload && bits_of(data_[i]) != bits_of(kPattern)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kFence = 64;
  static constexpr T kPattern = static_cast<T>(21844);
  int64_t rows_;
  int64_t k_;
  int64_t stride_;
  std::vector<T> data_;
};

/// `count` random bytes.
inline std::vector<std::byte> random_bytes(Random& random, int64_t count) {
  std::vector<std::byte> out(static_cast<size_t>(count));
  for (std::byte& b : out) b = static_cast<std::byte>(random.next() >> 56);
  return out;
}

/// The levels that this CPU has beyond the reference.
inline std::vector<kernels::cpu::SimdLevel> vector_levels() {
  std::vector<kernels::cpu::SimdLevel> out;
  for (const auto level : {kernels::cpu::SimdLevel::Avx2, kernels::cpu::SimdLevel::Avx512}) {
    if (level <= kernels::cpu::detect_simd().level) out.push_back(level);
  }
  return out;
}

}  // namespace slmi::test
