// GPTQ's planes against numpy (golden file), and against answers that can be worked out by hand.
#include "slmi/quant/gptq_packing.h"

#include <functional>
#include <limits>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "test_support.h"

namespace slmi {
namespace {

using quant::GptqCodes;
using quant::GptqPlanes;
using quant::GptqView;
using quant::GptqZeros;

class GptqGolden : public testing::TestWithParam<const char*> {
 protected:
  const test::Golden golden_{"gptq.txt"};
  template <class T>
  std::vector<T> values(const std::string& part) const {
    return golden_.values<T>(std::string(GetParam()) + "." + part);
  }
  GptqZeros form() const { return std::string(GetParam()) == "shuffled" ? GptqZeros::AsIs : GptqZeros::MinusOne; }

  /// Scales in the golden file are [G, N], as stored.
  GptqCodes codes() const {
    const auto shape = values<int64_t>("shape");
    GptqCodes out;
    out.n = shape[0];
    out.k = shape[1];
    out.groups = shape[2];
    out.codes = values<uint8_t>("codes");
    out.zeros = values<uint8_t>("zeros");
    out.g_idx = values<int32_t>("g_idx");
    const auto stored = values<uint16_t>("scales");
    for (int64_t row = 0; row < out.n; ++row)
      for (int64_t g = 0; g < out.groups; ++g)
        out.scales.push_back(f16_to_f32(stored[static_cast<size_t>(g * out.n + row)]));
    return out;
  }
};

TEST_P(GptqGolden, PacksToTheSameBits) {
  const GptqPlanes planes = quant::gptq_pack(codes(), form());
  EXPECT_TRUE(test::equal_bits(planes.qweight, values<uint32_t>("qweight")));
  EXPECT_TRUE(test::equal_bits(planes.qzeros, values<uint32_t>("qzeros")));
  EXPECT_TRUE(test::equal_bits(planes.scales, values<uint16_t>("scales")));
  EXPECT_TRUE(test::equal_bits(planes.g_idx, values<int32_t>("g_idx")));
}

TEST_P(GptqGolden, UnpacksToTheSameCodes) {
  const GptqCodes want = codes();
  const GptqPlanes planes = quant::gptq_pack(want, form());
  quant::gptq_check(planes.view(), "test");
  const GptqCodes got = quant::gptq_unpack(planes.view());
  EXPECT_TRUE(test::equal_bits(got.codes, want.codes));
  EXPECT_TRUE(test::equal_bits(got.scales, want.scales));
  EXPECT_TRUE(test::equal_bits(got.zeros, want.zeros));
  EXPECT_TRUE(test::equal_bits(got.g_idx, want.g_idx));
}

template <class T>
void expect_rows(const GptqView& view, const std::vector<T>& want, int64_t begin, int64_t end) {
  const int64_t stride = view.k + 3;
  test::GuardedRows<T> out(end - begin, view.k, stride);
  quant::gptq_dequantize_rows(view, out.data(), stride, begin, end);
  for (int64_t row = begin; row < end; ++row)
    EXPECT_TRUE(test::equal_bits(
        out.row(row - begin), std::span(want).subspan(static_cast<size_t>(row * view.k), static_cast<size_t>(view.k))))
        << "row " << row;
  EXPECT_TRUE(out.guards_intact());
}

TEST_P(GptqGolden, DequantizesToTheSameBits) {
  const GptqPlanes planes = quant::gptq_pack(codes(), form());
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{
           {0, planes.n}, {0, 1}, {1, 2}, {15, 17}, {16, 32}, {planes.n - 1, planes.n}, {3, 3}}) {
    expect_rows(planes.view(), values<float>("values"), begin, end);
    expect_rows(planes.view(), values<uint16_t>("bf16"), begin, end);
  }
}

TEST_P(GptqGolden, AnyAlignmentWillDo) {
  const GptqPlanes planes = quant::gptq_pack(codes(), form());
  GptqView view = planes.view();
  std::vector<std::vector<std::byte>> shifted;
  for (auto* plane : {&view.qweight, &view.qzeros, &view.scales, &view.g_idx}) {
    auto& copy = shifted.emplace_back(plane->size() + 1);
    std::copy(plane->begin(), plane->end(), copy.begin() + 1);
    *plane = std::span<const std::byte>(copy).subspan(1);
  }
  expect_rows(view, values<float>("values"), 0, view.n);
}

INSTANTIATE_TEST_SUITE_P(Cases, GptqGolden, testing::Values("ordered", "shuffled", "single"));

/// [32, 32], one group, scale 0.5, zero 8, all codes `code`.
GptqCodes constant(uint8_t code) {
  GptqCodes out;
  out.n = out.k = 32;
  out.groups = 1;
  out.codes.assign(32 * 32, code);
  out.scales.assign(32, 0.5f);
  out.zeros.assign(32, quant::kGptqSymmetricZero);
  out.g_idx.assign(32, 0);
  return out;
}

std::vector<float> values_of(const GptqView& view) {
  std::vector<float> out(static_cast<size_t>(view.n * view.k));
  quant::gptq_dequantize_rows(view, out.data(), view.k, 0, view.n);
  return out;
}

TEST(GptqPacking, WordsOfASymmetricGrid) {
  for (const GptqZeros form : {GptqZeros::MinusOne, GptqZeros::AsIs}) {
    const GptqPlanes planes = quant::gptq_pack(constant(15), form);
    EXPECT_EQ(planes.qzeros, std::vector<uint32_t>(4, form == GptqZeros::AsIs ? 0x88888888u : 0x77777777u));
    EXPECT_EQ(planes.qweight, std::vector<uint32_t>(4 * 32, 0xffffffffu));
    EXPECT_EQ(values_of(planes.view()), std::vector<float>(32 * 32, 3.5f));
    EXPECT_EQ(values_of(quant::gptq_pack(constant(0), form).view()), std::vector<float>(32 * 32, -4.0f));
  }
}

/// Programs that write a zero of 0 in version 1 leave 15 there.
TEST(GptqPacking, AZeroOfNoughtThatWrappedReadsAsNought) {
  GptqCodes m = constant(3);
  m.zeros.assign(32, 0);
  GptqPlanes planes = quant::gptq_pack(m, GptqZeros::AsIs);
  planes.qzeros.assign(4, 0xffffffffu);
  planes.zeros_form = GptqZeros::MinusOne;
  EXPECT_EQ(values_of(planes.view()), std::vector<float>(32 * 32, 1.5f));
}

TEST(GptqPacking, GroupsWithoutAnIndexFollowEachOther) {
  GptqCodes m = constant(9);
  m.groups = 2;
  m.scales.clear();
  for (int row = 0; row < 32; ++row) m.scales.insert(m.scales.end(), {1.0f, 2.0f});
  m.zeros.assign(64, 8);
  const GptqPlanes planes = quant::gptq_pack(m, GptqZeros::AsIs);
  GptqView view = planes.view();
  view.g_idx = {};
  view.group_size = 24;  // the last group is short
  quant::gptq_check(view, "test");
  const auto got = values_of(view);
  EXPECT_EQ(got[23], 1.0f);
  EXPECT_EQ(got[24], 2.0f);
}

TEST(GptqPacking, WiderScalesAreReadAsTheyAre) {
  const GptqPlanes planes = quant::gptq_pack(constant(9), GptqZeros::AsIs);
  GptqView view = planes.view();
  const std::vector<float> f32(32, 0.1f);
  view.scales = std::as_bytes(std::span(f32));
  view.scale_type = quant::GptqScales::F32;
  quant::gptq_check(view, "test");
  EXPECT_EQ(values_of(view)[5], 0.1f);
  const std::vector<uint16_t> bf16(32, f32_to_bf16(0.1f));
  view.scales = std::as_bytes(std::span(bf16));
  view.scale_type = quant::GptqScales::BF16;
  quant::gptq_check(view, "test");
  EXPECT_EQ(values_of(view)[5], bf16_to_f32(f32_to_bf16(0.1f)));
}

void expect_error(const std::string& part, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(ErrorKind::Input)) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(GptqPacking, WhatCannotBePackedIsRefused) {
  const auto refused = [](const std::string& part, const std::function<void(GptqCodes&)>& change,
                          GptqZeros form = GptqZeros::MinusOne) {
    GptqCodes m = constant(3);
    change(m);
    expect_error(part, [&] { quant::gptq_pack(m, form); });
  };
  refused("above 15", [](GptqCodes& m) { m.codes[7] = 16; });
  refused(
      "above 15", [](GptqCodes& m) { m.zeros[7] = 16; }, GptqZeros::AsIs);
  refused("a zero of 0", [](GptqCodes& m) { m.zeros[7] = 0; });
  refused("is no f16 number", [](GptqCodes& m) { m.scales[0] = 0.1f; });
  refused("is no f16 number", [](GptqCodes& m) { m.scales[0] = 1e6f; });
  refused("names group 1 of 1", [](GptqCodes& m) { m.g_idx[31] = 1; });
  refused("codes has 1023 entries", [](GptqCodes& m) { m.codes.pop_back(); });
  refused("multiples of 32", [](GptqCodes& m) { m.k = 31; });
  refused("0 groups", [](GptqCodes& m) { m.groups = 0; });
}

TEST(GptqPacking, PlanesThatDoNotFitAreNamed) {
  GptqPlanes planes = quant::gptq_pack(constant(3), GptqZeros::MinusOne);
  const auto refused = [&](const std::string& part, const std::function<void(GptqView&)>& change) {
    GptqView view = planes.view();
    change(view);
    expect_error("layer: ", [&] { quant::gptq_check(view, "layer"); });
    expect_error(part, [&] { quant::gptq_check(view, "layer"); });
  };
  refused("qweight has 508 bytes, needs 512", [](GptqView& v) { v.qweight = v.qweight.first(508); });
  refused("qzeros has 0 bytes, needs 16", [](GptqView& v) { v.qzeros = {}; });
  refused("scales has 62 bytes, needs 64", [](GptqView& v) { v.scales = v.scales.first(62); });
  refused("g_idx has 4 bytes, needs 128", [](GptqView& v) { v.g_idx = v.g_idx.first(4); });
  refused("groups of 16 inputs, but scales of 1 groups", [](GptqView& v) {
    v.g_idx = {};
    v.group_size = 16;
  });
  refused("multiples of 32", [](GptqView& v) { v.n = 0; });
  planes.g_idx[3] = -1;
  refused("g_idx[3] = -1", [](GptqView&) {});
  planes.g_idx[3] = 0;
  planes.scales[2] = 0x7c00;
  refused("the scale of group 0, output 2 is inf", [](GptqView&) {});
}

}  // namespace
}  // namespace slmi
