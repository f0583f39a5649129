// Rows in device memory between guard words, and error measures, for the tests of the CUDA kernels.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/base/random.h"
#include "slmi/kernels/cuda/capability.h"
#include "slmi/kernels/cuda/types.h"

namespace slmi::kernels::cuda {

inline std::string why_no_gpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count == 0 ? "no GPU" : "";
}
#define SLMI_REQUIRE_CUDA() \
  if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << "no GPU here: " << why
#define SLMI_REQUIRE_TENSOR_CORES() \
  SLMI_REQUIRE_CUDA();              \
  if (compute_capability(0) < 80) GTEST_SKIP() << "this GPU has no tensor cores for bf16"

inline void cuda_check(cudaError_t error, const char* what) {
  require(error == cudaSuccess, ErrorKind::Internal, "{}: {}", what, cudaGetErrorString(error));
}

inline float to_float(float x) {
  return x;
}
inline float to_float(Bf16 x) {
  return bf16_to_f32(x.bits);
}
inline float to_float(F16 x) {
  return f16_to_f32(x.bits);
}
template <class T>
T from_float(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else if constexpr (std::is_same_v<T, Bf16>)
    return {f32_to_bf16(x)};
  else
    return {f32_to_f16(x)};
}
/// Greatest relative error of one rounding to nearest.
template <class T>
constexpr double unit_roundoff() {
  return std::is_same_v<T, float> ? 0x1p-24 : std::is_same_v<T, Bf16> ? 0x1p-8 : 0x1p-11;
}

/// Plain device memory.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t n) : n_(n) {
    void* data = nullptr;
    cuda_check(cudaMalloc(&data, n * sizeof(T) + 1), "cudaMalloc");
    data_ = static_cast<T*>(data);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { upload(values); }
  DeviceArray(DeviceArray&& other) noexcept : data_(std::exchange(other.data_, nullptr)), n_(other.n_) {}
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }
  T* data() const { return data_; }
  void upload(const std::vector<T>& values) {
    require(values.size() == n_, ErrorKind::Internal, "{} values for {}", values.size(), n_);
    cuda_check(cudaMemcpy(data_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }
  std::vector<T> host() const {
    std::vector<T> out(n_);
    cuda_check(cudaMemcpy(out.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t n_ = 0;
};

/// A width, and how rows lie: packed (stride and start multiples of 16 bytes) or anyhow.
struct Layout {
  int64_t width, stride, offset;
};
inline std::vector<Layout> layouts(const std::vector<int64_t>& widths) {
  std::vector<Layout> out;
  for (const int64_t w : widths) {
    out.push_back({w, (w + 7) / 8 * 8 + 16, 0});
    out.push_back({w, w + 3, 1});
  }
  return out;
}

/// [rows, width] values of T, rows `stride` apart, in device memory; what lies between them and around them is a guard
/// pattern (a NaN in every type). The first row is `offset` elements beyond a multiple of 256 bytes.
template <class T>
class Rows {
 public:
  Rows(int64_t rows, int64_t width, int64_t stride, int64_t offset = 0)
      : rows_(rows), width_(width), stride_(stride), offset_(offset + kGuard), device_(pattern()) {}

  /// Normal values times `scale`, as T holds them.
  static Rows random(int64_t rows, int64_t width, int64_t stride, uint64_t seed, double scale = 1.0,
                     int64_t offset = 0) {
    Rows out(rows, width, stride, offset);
    Random random(seed);
    std::vector<T> host = out.pattern();
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < width; ++c)
        host[out.index(r, c)] = from_float<T>(static_cast<float>(scale * random.normal()));
    out.device_.upload(host);
    return out;
  }
  /// One row of these, rounded.
  static Rows of(const std::vector<float>& values) {
    const auto width = static_cast<int64_t>(values.size());
    Rows out(1, width, width);
    std::vector<T> host = out.pattern();
    for (int64_t c = 0; c < width; ++c) host[out.index(0, c)] = from_float<T>(values[static_cast<size_t>(c)]);
    out.device_.upload(host);
    return out;
  }

  T* data() const { return device_.data() + offset_; }
  int64_t stride() const { return stride_; }
  /// [rows * width], as f32.
  std::vector<float> values() const {
    const std::vector<T> host = device_.host();
    std::vector<float> out;
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < width_; ++c) out.push_back(to_float(host[index(r, c)]));
    return out;
  }
  /// True if every value was written and nothing beside them.
  ::testing::AssertionResult only_rows_written() const { return written(true); }
  /// True if nothing was written beside the values.
  ::testing::AssertionResult nothing_beside_written() const { return written(false); }

 private:
  static constexpr int64_t kGuard = 256 / sizeof(T);
  std::vector<T> pattern() const {
    std::vector<T> out(static_cast<size_t>(offset_ + rows_ * stride_ + kGuard));
    std::memset(static_cast<void*>(out.data()), 0xff, out.size() * sizeof(T));
    return out;
  }
  ::testing::AssertionResult written(bool everywhere) const {
    const std::vector<T> host = device_.host(), untouched = pattern();
    for (size_t i = 0; i < host.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) - offset_;
      const bool inside = at >= 0 && at < rows_ * stride_ && at % stride_ < width_;
      const bool same = std::memcmp(&host[i], &untouched[i], sizeof(T)) == 0;
      if (inside ? everywhere && same : !same)
        return ::testing::AssertionFailure() << (inside ? "not written: row " : "written beside the rows: row ")
                                             << at / stride_ << " column " << at % stride_;
    }
    return ::testing::AssertionSuccess();
  }
  size_t index(int64_t row, int64_t column) const { return static_cast<size_t>(offset_ + row * stride_ + column); }

  int64_t rows_, width_, stride_, offset_;
  DeviceArray<T> device_;
};

/// Bytes in device memory between guard words, the first `offset` bytes beyond a multiple of 256. Each is the
/// complement of what is expected there, until it is written.
class GuardedBytes {
 public:
  explicit GuardedBytes(const std::vector<uint8_t>& expected, int64_t offset = 0)
      : expected_(expected), offset_(kGuard + offset), device_(around(~0)) {}
  uint8_t* data() const { return device_.data() + offset_; }
  /// True if what is expected was written, and nothing beside it.
  ::testing::AssertionResult as_expected() const {
    const auto host = device_.host(), want = around(0);
    for (size_t i = 0; i < host.size(); ++i)
      if (host[i] != want[i])
        return ::testing::AssertionFailure()
               << "byte " << static_cast<int64_t>(i) - offset_ << " of " << expected_.size() << ": got " << int{host[i]}
               << ", want " << int{want[i]};
    return ::testing::AssertionSuccess();
  }
  /// True if nothing was written beside the bytes, whatever they are.
  bool guards_intact() const {
    const auto host = device_.host(), want = around(0);
    const auto end = static_cast<int64_t>(host.size()) - kGuard;
    return std::equal(host.begin(), host.begin() + offset_, want.begin()) &&
           std::equal(host.begin() + end, host.end(), want.begin() + end);
  }
  std::vector<uint8_t> values() const {
    const auto host = device_.host();
    return {host.begin() + offset_, host.end() - kGuard};
  }

 private:
  static constexpr int64_t kGuard = 256;
  /// The expected bytes, each bit of `flip` turned over, and the guard words.
  std::vector<uint8_t> around(int flip) const {
    std::vector<uint8_t> out(static_cast<size_t>(offset_), 0xa5);
    for (const uint8_t byte : expected_) out.push_back(static_cast<uint8_t>(byte ^ flip));
    out.resize(out.size() + kGuard, 0xa5);
    return out;
  }
  std::vector<uint8_t> expected_;
  int64_t offset_;
  DeviceArray<uint8_t> device_;
};

/// Bits, not numbers: -0 is not 0.
inline ::testing::AssertionResult equal_bits(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return ::testing::AssertionFailure() << got.size() << " values, want " << want.size();
  for (size_t i = 0; i < got.size(); ++i)
    if (std::memcmp(&got[i], &want[i], sizeof(float)) != 0)
      return ::testing::AssertionFailure() << "element " << i << ": got " << got[i] << ", want " << want[i];
  return ::testing::AssertionSuccess();
}

/// |got - want| <= relative * |want| + absolute for every element; names the worst.
inline ::testing::AssertionResult near(const std::vector<float>& got, const std::vector<float>& want, double relative,
                                       double absolute) {
  if (got.size() != want.size()) return ::testing::AssertionFailure() << got.size() << " values, want " << want.size();
  for (size_t i = 0; i < got.size(); ++i) {
    const double w = static_cast<double>(want[i]), error = std::fabs(static_cast<double>(got[i]) - w);
    if (!(error <= relative * std::fabs(w) + absolute) && !(std::isnan(got[i]) && std::isnan(want[i])))
      return ::testing::AssertionFailure() << "element " << i << ": got " << got[i] << ", want " << want[i];
  }
  return ::testing::AssertionSuccess();
}

/// The values as T rounds them.
template <class T>
std::vector<float> rounded(std::vector<float> values) {
  for (float& x : values) x = to_float(from_float<T>(x));
  return values;
}

}  // namespace slmi::kernels::cuda
