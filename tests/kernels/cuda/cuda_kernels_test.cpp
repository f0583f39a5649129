// Every CUDA kernel against the scalar one of the CPU, in all element types, at widths around every pack and at the
// real models', with rows that allow packs and rows that do not.
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <limits>
#include <set>
#include <span>

#include "device_rows.h"
#include "slmi/kernels/cpu/cross_entropy.h"
#include "slmi/kernels/cpu/dequantize.h"
#include "slmi/kernels/cpu/dropout.h"
#include "slmi/kernels/cpu/rms_norm.h"
#include "slmi/kernels/cpu/rope.h"
#include "slmi/kernels/cpu/swiglu.h"
#include "slmi/kernels/cuda/cross_entropy.h"
#include "slmi/kernels/cuda/dropout.h"
#include "slmi/kernels/cuda/nf4.h"
#include "slmi/kernels/cuda/rms_norm.h"
#include "slmi/kernels/cuda/rope.h"
#include "slmi/kernels/cuda/swiglu.h"
#include "slmi/kernels/dynamic_map.h"
#include "slmi/quant/nf4.h"

namespace slmi::kernels::cuda {
namespace {

constexpr auto kScalar = cpu::SimdLevel::Scalar;
constexpr int64_t kRows = 5;

const std::vector<int64_t> kWidths = {1,   3,   4,   7,    8,    9,    31,   32,   33,  127,
                                      128, 129, 576, 1023, 1024, 1025, 1536, 2048, 8192};

template <class T>
class CudaKernels : public ::testing::Test {
 protected:
  void SetUp() override { SLMI_REQUIRE_CUDA(); }
};
using Types = ::testing::Types<float, Bf16, F16>;
TYPED_TEST_SUITE(CudaKernels, Types);

TYPED_TEST(CudaKernels, Nf4EqualsTheCpuBitForBit) {
  using T = TypeParam;
  for (const auto scales : {quant::Nf4Scales::Plain, quant::Nf4Scales::Double}) {
    for (const auto& l : layouts({8, 63, 64, 65, 576, 2048})) {
      const int64_t n = l.width > 1000 ? 300 : 37;  // more than one second-level scale
      std::vector<float> weight(static_cast<size_t>(n * l.width));
      Random random(7);
      for (float& w : weight) w = static_cast<float>(0.02 * random.normal());
      const auto q = quant::nf4_quantize(weight, n, l.width, {scales, std::nullopt});
      std::vector<float> want(weight.size());
      quant::nf4_dequantize(q, want);
      const DeviceArray<uint8_t> codes(q.codes), absmax_codes(q.absmax_codes);
      const DeviceArray<float> absmax(q.absmax), absmax2(q.absmax2),
          map(std::vector<float>(dynamic_map().begin(), dynamic_map().end()));
      Nf4View view = q.view();
      view.codes = codes.data();
      view.absmax = q.absmax.empty() ? nullptr : absmax.data();
      view.absmax_codes = absmax_codes.data();
      view.absmax2 = absmax2.data();
      Rows<T> out(n, l.width, l.stride, l.offset);
      nf4_dequantize(view, q.doubly_quantized() ? map.data() : nullptr, out.data(), l.stride, nullptr);
      ASSERT_TRUE(out.only_rows_written()) << l.width;
      ASSERT_EQ(out.values(), rounded<T>(want)) << l.width;
    }
  }
}

/// Row-major values of a matrix, rounded to T.
template <class T>
std::vector<T> typed(const std::vector<float>& values) {
  std::vector<T> out;
  for (const float x : values) out.push_back(from_float<T>(x));
  return out;
}
template <class T>
std::vector<float> floats(const std::vector<T>& values) {
  std::vector<float> out;
  for (const T x : values) out.push_back(to_float(x));
  return out;
}

/// The code of x * reciprocal by the rules of kernels/cuda/nf4.h, for every reciprocal of `scale` within 2 ulp.
std::set<int> codes_allowed(float x, float scale, std::span<const float> borders, bool ties_to_even) {
  std::set<int> out;
  const int32_t exact = std::bit_cast<int32_t>(1.0f / scale);
  for (int32_t step = -2; step <= 2; ++step) {
    const float scaled = x * std::bit_cast<float>(exact + step);
    auto code = static_cast<size_t>(std::ranges::lower_bound(borders, scaled) - borders.begin());
    if (ties_to_even && code % 2 == 1 && code < borders.size() && borders[code] == scaled) ++code;
    out.insert(static_cast<int>(code));
  }
  return out;
}

/// Both levels on the GPU, from and to memory that begins `offset` values beyond a multiple of 256 bytes, between guard
/// words: scales equal, bit for bit, to those of the CPU; every code is one that a reciprocal within 2 ulp gives.
template <class T>
void expect_quantized(const std::vector<T>& weight, int64_t offset) {
  const auto count = static_cast<int64_t>(weight.size());
  const std::vector<float> exact = floats(weight);
  const auto want = quant::nf4_quantize(exact, 1, count, {quant::Nf4Scales::Plain, std::nullopt});
  std::vector<T> shifted(static_cast<size_t>(offset));
  shifted.insert(shifted.end(), weight.begin(), weight.end());
  const DeviceArray<T> x(shifted);
  const DeviceArray<float> map(std::vector<float>(dynamic_map().begin(), dynamic_map().end()));
  std::vector<float> scales;
  for (size_t first = 0; first < exact.size(); first += 64) {
    float largest = 0.0f;
    for (size_t i = first; i < std::min(first + 64, exact.size()); ++i)
      largest = std::max(largest, std::fabs(exact[i]));
    scales.push_back(largest);
  }
  const float mean = quant::scales_mean(scales);
  const auto nested = quant::quantize_scales(scales, mean);
  const auto blocks = static_cast<int64_t>(scales.size());
  const auto outer = static_cast<int64_t>(nested.absmax2.size());
  const GuardedBytes codes(want.codes, offset), scale_codes(nested.codes, offset);
  Rows<float> absmax(1, blocks, blocks, offset), absmax2(1, outer, outer, offset);
  nf4_quantize(x.data() + offset, count, codes.data(), absmax.data(), nullptr);
  ASSERT_TRUE(codes.guards_intact());
  ASSERT_TRUE(absmax.only_rows_written());
  ASSERT_TRUE(equal_bits(absmax.values(), scales));
  nf4_quantize_scales(absmax.data(), blocks, mean, map.data(), scale_codes.data(), absmax2.data(), nullptr);
  ASSERT_TRUE(scale_codes.guards_intact());
  ASSERT_TRUE(absmax2.only_rows_written());
  ASSERT_TRUE(equal_bits(absmax2.values(), nested.absmax2));
  const auto got = codes.values(), got_scales = scale_codes.values();
  for (size_t i = 0; i < exact.size(); ++i) {
    const int code = (i % 2 == 0 ? got[i / 2] >> 4 : got[i / 2]) & 15;
    const float scale = std::max(scales[i / 64], kNf4LeastDivisor);
    ASSERT_TRUE(codes_allowed(exact[i], scale, kNf4DecimalBorders, false).contains(code))
        << "value " << i << ": " << code;
  }
  const auto borders = borders_of(dynamic_map());
  for (size_t b = 0; b < scales.size(); ++b) {
    const float largest = nested.absmax2[b / 256];
    const auto allowed = largest == 0.0f ? std::set<int>{0} : codes_allowed(scales[b] - mean, largest, borders, true);
    ASSERT_TRUE(allowed.contains(got_scales[b])) << "scale " << b << ": " << int{got_scales[b]};
  }
}

TYPED_TEST(CudaKernels, Nf4Quantization) {
  using T = TypeParam;
  // Values around a block of 64, an eighth of one, and a second-level block of 256 of them; more than one thread block.
  for (const int64_t count : {1, 7, 8, 9, 63, 64, 65, 127, 128, 2047, 2048, 2049, 255 * 64, 256 * 64, 256 * 64 + 1,
                              257 * 64, 576 * 1536, 513 * 2048}) {
    for (const int64_t offset : {0, 1}) {
      SCOPED_TRACE(testing::Message() << count << " values, " << offset << " beyond an alignment");
      std::vector<float> weight(static_cast<size_t>(count));
      Random random(31);
      // Blocks of other sizes: the scales' codes are spread over the map.
      for (size_t i = 0; i < weight.size(); ++i)
        weight[i] = static_cast<float>(0.02 * random.normal() * (1.0 + static_cast<double>(i / 64 % 11)));
      expect_quantized(typed<T>(weight), offset);
    }
  }
}

TYPED_TEST(CudaKernels, Nf4QuantizationOfTiesZerosAndExtremes) {
  using T = TypeParam;
  std::vector<float> weight;
  const auto add_block = [&](const std::function<float(int)>& value) {
    for (int i = 0; i < 64; ++i) weight.push_back(value(i));
  };
  add_block([](int) { return 0.0f; });
  add_block([](int i) { return i % 2 == 0 ? 0.0f : -0.0f; });
  // Exact midpoints of the codes and their neighbours, absmax 1: what is at a border takes the lower code.
  add_block([](int i) {
    const float border = kNf4Borders[static_cast<size_t>(i) / 4 % kNf4Borders.size()];
    return i % 4 == 0   ? border
           : i % 4 == 1 ? std::nextafterf(border, -1.0f)
           : i % 4 == 2 ? std::nextafterf(border, 1.0f)
                        : -1.0f;
  });
  add_block([](int i) { return i == 5 ? -60000.0f : 1e-3f * static_cast<float>(i); });  // one outlier
  add_block([](int i) { return 6e-8f * static_cast<float>(i % 3 - 1); });               // subnormal in f16
  add_block([](int i) { return 3e-39f * static_cast<float>(i % 5 - 2); });  // subnormal, below the least divisor
  add_block([](int) { return 1.0f; });
  weight.insert(weight.end(), {0.0f, 0.0f, 0.0f});  // a short last block of zeros
  expect_quantized(typed<T>(weight), 0);
  expect_quantized(typed<T>(std::vector<float>(64, 0.0f)), 0);
  expect_quantized(typed<T>(std::vector<float>(300 * 64, 0.25f)), 0);  // every scale is the offset
}

TYPED_TEST(CudaKernels, Nf4ScalesShowValuesThatAreNone) {
  using T = TypeParam;
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> weight(3 * 64 + 5, 0.5f);
    weight[70] = value;
    weight[193] = value;  // in the short last block too
    const DeviceArray<T> x(typed<T>(weight));
    const DeviceArray<uint8_t> codes((weight.size() + 1) / 2);
    Rows<float> absmax(1, 4, 4);
    nf4_quantize(x.data(), static_cast<int64_t>(weight.size()), codes.data(), absmax.data(), nullptr);
    const auto scales = absmax.values();
    EXPECT_EQ(scales[0], 0.5f);
    EXPECT_FALSE(std::isfinite(scales[1])) << value;
    EXPECT_EQ(scales[2], 0.5f);
    EXPECT_FALSE(std::isfinite(scales[3])) << value;
  }
}

TYPED_TEST(CudaKernels, RmsNormAndItsGradient) {
  using T = TypeParam;
  constexpr float kEps = 1e-5f;
  for (const auto& l : layouts(kWidths)) {
    const auto w = l.width;
    const auto x = Rows<float>::random(kRows, w, w, 1), weight = Rows<float>::random(1, w, w, 2);
    const auto y = Rows<T>::random(kRows, w, l.stride, 3, 1.0, l.offset);
    const auto xs = x.values(), ws = weight.values(), ys = y.values();
    Rows<T> out(kRows, w, l.stride, l.offset);
    Rows<float> rstd(1, kRows, kRows);
    rms_norm_forward(x.data(), weight.data(), kEps, kRows, w, out.data(), l.stride, rstd.data(), nullptr);
    std::vector<float> want(xs.size()), want_rstd(kRows);
    cpu::rms_norm_forward(xs.data(), ws.data(), kEps, w, want.data(), w, want_rstd.data(), 0, kRows, kScalar);
    // The sum of squares, of positive terms: at most width roundings, in the worst order.
    const double sum_error = static_cast<double>(w) * 0x1p-24, bound = unit_roundoff<T>() + sum_error + 4 * 0x1p-24;
    ASSERT_TRUE(out.only_rows_written()) << w;
    ASSERT_TRUE(rstd.only_rows_written()) << w;
    ASSERT_TRUE(near(rstd.values(), want_rstd, sum_error + 4 * 0x1p-24, 0)) << w;
    ASSERT_TRUE(near(out.values(), want, bound, 1e-7)) << w;

    // In one pass with the residual: hidden has the sum's own bits.
    Rows<float> hidden(kRows, w, w), alone(kRows, w, w);
    Rows<T> fused(kRows, w, l.stride, l.offset);
    add_rms_norm_forward(x.data(), y.data(), l.stride, weight.data(), kEps, kRows, w, hidden.data(), fused.data(),
                         l.stride, rstd.data(), nullptr);
    add_to_residual(x.data(), y.data(), l.stride, kRows, w, alone.data(), nullptr);
    std::vector<float> sum = xs;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += ys[i];
    ASSERT_TRUE(hidden.only_rows_written() && alone.only_rows_written() && fused.only_rows_written()) << w;
    ASSERT_EQ(hidden.values(), sum) << w;
    ASSERT_EQ(alone.values(), sum) << w;
    cpu::rms_norm_forward(sum.data(), ws.data(), kEps, w, want.data(), w, want_rstd.data(), 0, kRows, kScalar);
    ASSERT_TRUE(near(fused.values(), want, bound, 1e-7)) << w;

    auto dx = Rows<float>::random(kRows, w, w, 4);
    std::vector<float> want_dx = dx.values();
    cpu::rms_norm_forward(xs.data(), ws.data(), kEps, w, want.data(), w, want_rstd.data(), 0, kRows, kScalar);
    const DeviceArray<float> same_rstd(want_rstd);
    auto dx_alone = Rows<float>::random(kRows, w, w, 4);
    Rows<T> as_rounded(kRows, w, l.stride, l.offset);
    rms_norm_backward(y.data(), l.stride, x.data(), weight.data(), same_rstd.data(), kRows, w, dx_alone.data(),
                      static_cast<T*>(nullptr), 0, static_cast<T*>(nullptr), 0, nullptr);
    rms_norm_backward(y.data(), l.stride, x.data(), weight.data(), same_rstd.data(), kRows, w, dx.data(),
                      as_rounded.data(), l.stride, static_cast<T*>(nullptr), 0, nullptr);
    ASSERT_EQ(dx.values(), dx_alone.values()) << w;
    // The forward pass's output again, in the place of its gradient.
    auto in_place = Rows<T>::random(kRows, w, l.stride, 3, 1.0, l.offset);
    ASSERT_TRUE(equal_bits(in_place.values(), y.values()));
    auto dx_remaking = Rows<float>::random(kRows, w, w, 4);
    rms_norm_forward(x.data(), weight.data(), kEps, kRows, w, out.data(), l.stride, rstd.data(), nullptr);
    rms_norm_backward(in_place.data(), l.stride, x.data(), weight.data(), rstd.data(), kRows, w, dx_remaking.data(),
                      static_cast<T*>(nullptr), 0, in_place.data(), l.stride, nullptr);
    ASSERT_TRUE(in_place.only_rows_written()) << w;
    ASSERT_TRUE(equal_bits(in_place.values(), out.values())) << w;
    ASSERT_TRUE(near(dx_remaking.values(), dx.values(), 1e-6, 1e-6 * std::sqrt(static_cast<double>(w)))) << w;
    ASSERT_TRUE(as_rounded.only_rows_written()) << w;
    ASSERT_EQ(as_rounded.values(), rounded<T>(dx.values())) << w;
    cpu::rms_norm_backward(ys.data(), w, xs.data(), ws.data(), want_rstd.data(), w, want_dx.data(), 0, kRows, kScalar);
    ASSERT_TRUE(near(dx.values(), want_dx, 1e-6, 1e-6 * std::sqrt(static_cast<double>(w)))) << w;
  }
}

TYPED_TEST(CudaKernels, RopeBothWaysEqualsTheCpuBitForBit) {
  using T = TypeParam;
  for (const int64_t head_dim : {2, 6, 16, 64, 128}) {
    for (const auto direction : {RopeDirection::Forward, RopeDirection::Inverse}) {
      for (const auto& l : layouts({3 * head_dim})) {
        auto x = Rows<T>::random(kRows, l.width, l.stride, 5, 2.0, l.offset);
        const auto cos = Rows<float>::random(9, head_dim / 2, head_dim / 2, 6),
                   sin = Rows<float>::random(9, head_dim / 2, head_dim / 2, 7);
        const std::vector<int32_t> positions = {0, 8, 3, 3, 1};
        const DeviceArray<int32_t> device_positions(positions);
        std::vector<float> want = x.values();
        cpu::rope_apply(want.data(), l.width, 3, head_dim, cos.values().data(), sin.values().data(), positions.data(),
                        direction, 0, kRows, kScalar);
        Rows<T> elsewhere(kRows, l.width, l.width + 8);
        rope_apply(x.data(), l.stride, kRows, 3, head_dim, cos.data(), sin.data(), device_positions.data(), direction,
                   elsewhere.data(), elsewhere.stride(), nullptr);
        rope_apply(x.data(), l.stride, kRows, 3, head_dim, cos.data(), sin.data(), device_positions.data(), direction,
                   x.data(), l.stride, nullptr);
        ASSERT_TRUE(x.only_rows_written() && elsewhere.only_rows_written()) << head_dim;
        ASSERT_EQ(x.values(), rounded<T>(want)) << head_dim;
        ASSERT_EQ(elsewhere.values(), x.values()) << head_dim;
      }
    }
  }
}

TYPED_TEST(CudaKernels, SwigluAndItsGradient) {
  using T = TypeParam;
  for (const auto& l : layouts(kWidths)) {
    const int64_t f = l.width, stride = 2 * f + (l.stride - f);
    const auto gate_up = Rows<T>::random(kRows, 2 * f, stride, 8, 3.0, l.offset);
    const auto d_out = Rows<T>::random(kRows, f, l.stride, 9, 1.0, l.offset);
    const auto xs = gate_up.values(), ds = d_out.values();
    Rows<T> out(kRows, f, l.stride, l.offset), again(kRows, f, l.stride, l.offset);
    Rows<T> d_gate_up(kRows, 2 * f, stride, l.offset);
    swiglu_forward(gate_up.data(), stride, kRows, f, out.data(), l.stride, nullptr);
    swiglu_backward(gate_up.data(), stride, d_out.data(), l.stride, kRows, f, d_gate_up.data(), stride, again.data(),
                    l.stride, nullptr);
    std::vector<float> want(ds.size()), want_d(xs.size());
    cpu::swiglu_forward(xs.data(), 2 * f, f, want.data(), f, 0, kRows, kScalar);
    cpu::swiglu_backward(xs.data(), 2 * f, ds.data(), f, f, want_d.data(), 2 * f, static_cast<float*>(nullptr), 0, 0,
                         kRows, kScalar);
    const double bound = unit_roundoff<T>() + 16 * 0x1p-24;        // exp 2 ulp here and there, and the roundings
    const double tiny = std::is_same_v<T, F16> ? 0x1p-25 : 1e-37;  // half of the smallest step of f16
    ASSERT_TRUE(out.only_rows_written() && d_gate_up.only_rows_written()) << f;
    ASSERT_TRUE(near(out.values(), want, bound, tiny)) << f;
    ASSERT_EQ(again.values(), out.values()) << f;
    // The derivative of silu has a zero: there the error is relative to its terms.
    ASSERT_TRUE(near(d_gate_up.values(), want_d, bound, 1e-5)) << f;
    // In place.
    swiglu_backward(gate_up.data(), stride, d_out.data(), l.stride, kRows, f, gate_up.data(), stride, d_out.data(),
                    l.stride, nullptr);
    ASSERT_EQ(gate_up.values(), d_gate_up.values()) << f;
    ASSERT_EQ(d_out.values(), out.values()) << f;
    ASSERT_TRUE(gate_up.only_rows_written() && d_out.only_rows_written()) << f;
  }
}

TYPED_TEST(CudaKernels, SwigluOfGatesFarFromZero) {
  using T = TypeParam;
  const std::vector<float> gates = {-60000, -1000, -89, -88, -87, -86, -20, 20, 86, 87, 88, 89, 1000, 60000, -0.0f, 0};
  const auto f = static_cast<int64_t>(gates.size());
  std::vector<float> values = gates;
  values.resize(2 * gates.size(), 0.5f);  // up
  const auto gate_up = Rows<T>::of(values);
  const auto xs = gate_up.values();
  Rows<T> out(1, f, f);
  swiglu_forward(gate_up.data(), 2 * f, 1, f, out.data(), f, nullptr);
  std::vector<float> want(gates.size());
  cpu::swiglu_forward(xs.data(), 2 * f, f, want.data(), f, 0, 1, kScalar);
  EXPECT_TRUE(near(out.values(), want, unit_roundoff<T>() + 16 * 0x1p-24, std::is_same_v<T, F16> ? 0x1p-25 : 1e-33));
}

TYPED_TEST(CudaKernels, CrossEntropyAndItsGradient) {
  using T = TypeParam;
  for (const auto& l : layouts({1, 2, 31, 1024, 8191, 8192, 8193, 49152, 128256})) {
    auto logits = Rows<T>::random(kRows, l.width, l.stride, 10, 3.0, l.offset);
    std::vector<float> want = logits.values(), want_loss(kRows);
    std::vector<int32_t> targets;
    for (int64_t i = 0; i < kRows; ++i) targets.push_back(static_cast<int32_t>(i * (l.width - 1) / (kRows - 1)));
    const DeviceArray<int32_t> device_targets(targets);
    Rows<float> loss(1, kRows, kRows), loss_alone(1, kRows, kRows);
    cross_entropy_loss(logits.data(), l.stride, kRows, l.width, device_targets.data(), loss_alone.data(), nullptr);
    ASSERT_EQ(logits.values(), want) << "loss alone changes nothing";
    cross_entropy_gradient(logits.data(), l.stride, kRows, l.width, device_targets.data(), nullptr, loss.data(),
                           nullptr);
    cpu::cross_entropy_gradient(want.data(), l.width, l.width, targets.data(), 1.0f, want_loss.data(),
                                static_cast<float*>(nullptr), 0, kRows, kScalar);
    ASSERT_TRUE(logits.only_rows_written() && loss.only_rows_written()) << l.width;
    ASSERT_EQ(loss.values(), loss_alone.values()) << l.width;
    ASSERT_TRUE(near(loss.values(), want_loss, 2e-6, 1e-6)) << l.width;
    ASSERT_TRUE(near(logits.values(), want, unit_roundoff<T>() + 2e-5, std::is_same_v<T, F16> ? 0x1p-25 : 1e-7))
        << l.width;
  }
}

TYPED_TEST(CudaKernels, CrossEntropyGradientTimesAScale) {
  using T = TypeParam;
  for (const auto& l : layouts({31, 1024, 49152})) {
    for (const float scale : {1.0f, 0.25f, 4096.0f}) {
      auto logits = Rows<T>::random(kRows, l.width, l.stride, 10, 3.0, l.offset);
      std::vector<float> want = logits.values(), want_loss(kRows);
      const std::vector<int32_t> targets = {0, 30, 5, 5, 17};
      const DeviceArray<int32_t> device_targets(targets);
      const DeviceArray<float> device_scale(std::vector<float>{scale});
      Rows<float> loss(1, kRows, kRows);
      cross_entropy_gradient(logits.data(), l.stride, kRows, l.width, device_targets.data(), device_scale.data(),
                             loss.data(), nullptr);
      cpu::cross_entropy_gradient(want.data(), l.width, l.width, targets.data(), scale, want_loss.data(),
                                  static_cast<float*>(nullptr), 0, kRows, kScalar);
      ASSERT_TRUE(logits.only_rows_written()) << l.width;
      ASSERT_TRUE(near(loss.values(), want_loss, 2e-6, 1e-6)) << l.width << ": the loss has no scale";
      const double tiny = std::is_same_v<T, F16> ? 0x1p-25 : 1e-7 * static_cast<double>(scale);
      ASSERT_TRUE(near(logits.values(), want, unit_roundoff<T>() + 2e-5, tiny)) << l.width << ", times " << scale;
    }
  }
}

TYPED_TEST(CudaKernels, CrossEntropyOfRowsWithoutATarget) {
  using T = TypeParam;
  for (const auto& l : layouts({31, 8192})) {
    auto logits = Rows<T>::random(2, l.width, l.stride, 10, 3.0, l.offset);
    const auto before = logits.values();
    const DeviceArray<int32_t> targets(std::vector<int32_t>{-1, 5});
    Rows<float> loss(1, 2, 2);
    cross_entropy_loss(logits.data(), l.stride, 2, l.width, targets.data(), loss.data(), nullptr);
    EXPECT_EQ(loss.values()[0], 0.0f);
    EXPECT_GT(loss.values()[1], 0.0f);
    EXPECT_EQ(logits.values(), before);
    cross_entropy_gradient(logits.data(), l.stride, 2, l.width, targets.data(), nullptr, loss.data(), nullptr);
    ASSERT_TRUE(logits.only_rows_written());
    EXPECT_EQ(loss.values()[0], 0.0f);
    const auto after = logits.values();
    for (int64_t c = 0; c < l.width; ++c) ASSERT_EQ(after[static_cast<size_t>(c)], 0.0f) << c;
    EXPECT_LT(after[static_cast<size_t>(l.width + 5)], 0.0f);
  }
}

TYPED_TEST(CudaKernels, DropoutEqualsTheCpuBitForBit) {
  using T = TypeParam;
  for (const auto& l : layouts(kWidths)) {
    const auto x = Rows<T>::random(kRows, l.width, l.stride, 21, 2.0, l.offset);
    const std::vector<uint64_t> keys = {0, 1, uint64_t{1} << 40, ~uint64_t{0}, 77};
    const std::vector<int32_t> positions = {0, 8191, 3, 3, 1};
    const int64_t step = 12345;
    const DeviceArray<uint64_t> device_keys(keys);
    const DeviceArray<int32_t> device_positions(positions);
    const DeviceArray<int64_t> device_step(std::vector<int64_t>{step});
    const cpu::DropoutKey key = {0x9876543210abcdefu, step, 29, 0.1};
    std::vector<float> want = x.values();
    cpu::apply_dropout(want.data(), l.width, key, keys.data(), positions.data(), l.width, want.data(), l.width, 0,
                       kRows, kScalar);
    Rows<T> out(kRows, l.width, l.stride, l.offset);
    apply_dropout(x.data(), l.stride, {key.seed, device_step.data(), key.site, key.probability}, device_keys.data(),
                  device_positions.data(), kRows, l.width, out.data(), l.stride, nullptr);
    ASSERT_TRUE(out.only_rows_written()) << l.width;
    ASSERT_EQ(out.values(), rounded<T>(want)) << l.width;
  }
}

TYPED_TEST(CudaKernels, CrossEntropyOfLogitsThatAreNoNumbers) {
  using T = TypeParam;
  constexpr int64_t kVocabulary = 64;
  const float inf = INFINITY, nan = NAN;
  for (const auto& [value, want_finite] : {std::pair(nan, false), std::pair(inf, false), std::pair(-inf, true)}) {
    std::vector<T> row(kVocabulary, from_float<T>(0.5f));
    row[7] = from_float<T>(value);
    const DeviceArray<T> logits(row);
    const DeviceArray<int32_t> targets(std::vector<int32_t>{3});
    Rows<float> loss(1, 1, 1);
    cross_entropy_gradient(logits.data(), kVocabulary, 1, kVocabulary, targets.data(), nullptr, loss.data(), nullptr);
    EXPECT_EQ(std::isfinite(loss.values()[0]), want_finite) << value;
    if (!want_finite) continue;
    EXPECT_NEAR(loss.values()[0], std::log(63.0), 1e-6);
    EXPECT_EQ(to_float(logits.host()[7]), 0.0f);
  }
}

}  // namespace
}  // namespace slmi::kernels::cuda
