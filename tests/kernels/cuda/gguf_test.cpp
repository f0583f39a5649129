// GGUF blocks to numbers: every format against the CPU's scalar kernel, bit for bit.
#include "slmi/kernels/cuda/gguf.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "device_rows.h"
#include "slmi/kernels/cpu/dequantize.h"

namespace slmi::kernels::cuda {
namespace {

std::vector<BlockFormat> formats() {
  std::vector<BlockFormat> out;
  for (int i = static_cast<int>(BlockFormat::Q4_0); i < kNumBlockFormats; ++i)
    out.push_back(static_cast<BlockFormat>(i));
  return out;
}

/// A matrix of random bits, which make every kind of scale, NaN, infinity and subnormal included.
struct Matrix {
  BlockFormat format;
  int64_t n, k;
  std::vector<uint8_t> bytes;
  DeviceArray<uint8_t> blocks;

  Matrix(BlockFormat f, int64_t rows, int64_t columns, uint64_t seed)
      : format(f),
        n(rows),
        k(columns),
        bytes(random(rows * columns / block_size(f) * block_bytes(f), seed)),
        blocks(bytes) {}
  static std::vector<uint8_t> random(int64_t count, uint64_t seed) {
    Random random(seed);
    std::vector<uint8_t> out(static_cast<size_t>(count));
    for (auto& byte : out) byte = static_cast<uint8_t>(random.next() >> 56);
    return out;
  }
  BlockView view() const { return {format, blocks.data(), n, k}; }
  /// [n * k]
  std::vector<float> values() const {
    std::vector<float> out(static_cast<size_t>(n * k));
    cpu::dequantize_rows(format, reinterpret_cast<const std::byte*>(bytes.data()), out.data(), k, k, 0, n,
                         cpu::SimdLevel::Scalar);
    return out;
  }
};

/// Equal bits, the sign of a zero too; any NaN for a NaN.
::testing::AssertionResult same_bits(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return ::testing::AssertionFailure() << got.size() << " values, want " << want.size();
  for (size_t i = 0; i < got.size(); ++i)
    if (std::memcmp(&got[i], &want[i], sizeof(float)) != 0 && !(std::isnan(got[i]) && std::isnan(want[i])))
      return ::testing::AssertionFailure() << "value " << i << ": got " << got[i] << ", want " << want[i];
  return ::testing::AssertionSuccess();
}

template <class T>
class CudaGguf : public ::testing::Test {
 protected:
  void SetUp() override { SLMI_REQUIRE_CUDA(); }
};
using Types = ::testing::Types<float, Bf16, F16>;
TYPED_TEST_SUITE(CudaGguf, Types);

TYPED_TEST(CudaGguf, EveryFormatEqualsTheCpuBitForBit) {
  using T = TypeParam;
  constexpr int64_t kValuesOfABlock = 2048;  // of threads
  for (const BlockFormat format : formats()) {
    const int64_t block = block_size(format);
    for (const auto& l : layouts({block, 3 * block, 9 * block, 2048, 8192})) {
      const int64_t whole = std::max<int64_t>(2, kValuesOfABlock / l.width);
      for (const int64_t n : {whole - 1, whole, whole + 1}) {
        const Matrix matrix(format, n, l.width, static_cast<uint64_t>(l.width + n));
        Rows<T> out(n, l.width, l.stride, l.offset);
        gguf_dequantize(matrix.view(), out.data(), l.stride, nullptr);
        ASSERT_TRUE(out.only_rows_written()) << static_cast<int>(format) << " [" << n << ", " << l.width << "]";
        ASSERT_TRUE(same_bits(out.values(), rounded<T>(matrix.values())))
            << static_cast<int>(format) << " [" << n << ", " << l.width << "]";
      }
    }
  }
}

TYPED_TEST(CudaGguf, RowsArePickedByIds) {
  using T = TypeParam;
  const std::vector<int32_t> ids = {36, 0, 5, 5, -1, 37, 17};
  const DeviceArray<int32_t> device_ids(ids);
  const auto count = static_cast<int64_t>(ids.size());
  for (const BlockFormat format : formats()) {
    const int64_t block = block_size(format);
    for (const auto& l : layouts({block, 9 * block})) {
      const Matrix matrix(format, 37, l.width, 3);
      Rows<T> out(count, l.width, l.stride, l.offset);
      gguf_rows(matrix.view(), device_ids.data(), count, out.data(), l.stride, nullptr);
      ASSERT_TRUE(out.only_rows_written()) << static_cast<int>(format) << " " << l.width;
      const auto values = matrix.values();
      std::vector<float> want;
      for (const int32_t id : ids)
        for (int64_t c = 0; c < l.width; ++c)
          want.push_back(id < 0 || id >= matrix.n ? NAN : values[static_cast<size_t>(id * l.width + c)]);
      ASSERT_TRUE(same_bits(out.values(), rounded<T>(want))) << static_cast<int>(format) << " " << l.width;
    }
  }
}

TEST(CudaGgufRefuses, WhatIsNotInBlocksOrNotAtTheirPlace) {
  alignas(8) uint8_t bytes[64] = {};
  float out[32];
  EXPECT_THROW(gguf_dequantize({BlockFormat::BF16, bytes, 1, 32}, out, 32, nullptr), Error);
  EXPECT_THROW(gguf_dequantize({BlockFormat::Q4_0, bytes + 2, 1, 32}, out, 32, nullptr), Error);
}

}  // namespace
}  // namespace slmi::kernels::cuda
