// Names and sizes of the weight formats, and the choice of SIMD set.
#include "slmi/quant/weight_format.h"

#include <set>

#include "slmi/base/error.h"
#include "slmi/kernels/cpu/simd.h"
#include "test_support.h"

namespace slmi {
namespace {

using kernels::cpu::parse_simd;
using kernels::cpu::Simd;
using kernels::cpu::SimdLevel;
using quant::WeightFormat;

TEST(WeightFormat, NamesAreUniqueAndParseBack) {
  std::set<std::string> names;
  for (const WeightFormat format : quant::all_weight_formats()) {
    const std::string name(quant::name(format));
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(quant::parse_weight_format(name), format);
  }
  EXPECT_EQ(names.size(), 15u);
  EXPECT_EQ(quant::parse_weight_format("q4_k"), WeightFormat::Q4_K);
  EXPECT_EQ(quant::parse_weight_format("nf4"), WeightFormat::NF4);
}

TEST(WeightFormat, UnknownNameListsTheKnown) {
  try {
    quant::parse_weight_format("Q4_2");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Usage);
    EXPECT_NE(std::string(error.what()).find("'Q4_2'"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("Q4_0, Q4_1"), std::string::npos);
  }
}

TEST(WeightFormat, TypesThatGgufHasAndWeDoNotAreEmpty) {
  for (const WeightFormat format : {WeightFormat::NF4, WeightFormat::GPTQ}) {
    EXPECT_TRUE(quant::has_planes(format));
    EXPECT_FALSE(quant::ggml_type_id(format).has_value());
  }
  for (const uint32_t id : {4u, 5u, 9u, 15u, 16u, 39u, 0xffffffffu}) {
    EXPECT_FALSE(quant::weight_format_from_ggml(id).has_value()) << id;
  }
}

TEST(WeightFormat, RowBytes) {
  EXPECT_EQ(quant::row_bytes(WeightFormat::F32, 576), 2304);
  EXPECT_EQ(quant::row_bytes(WeightFormat::Q4_1, 576), 360);
  EXPECT_EQ(quant::row_bytes(WeightFormat::Q6_K, 2048), 1680);
  EXPECT_EQ(quant::row_bytes(WeightFormat::NF4, 576), 288);
  EXPECT_EQ(quant::row_bytes(WeightFormat::Q4_0, 0), 0);
  EXPECT_EQ(quant::matrix_bytes(WeightFormat::GPTQ, 3, 576), 864);
  EXPECT_THROW(quant::row_bytes(WeightFormat::GPTQ, 60), Error);
  EXPECT_EQ(quant::matrix_bytes(WeightFormat::NF4, 2, 33), 33);
  EXPECT_THROW(quant::row_bytes(WeightFormat::NF4, 33), Error);
  EXPECT_THROW(quant::row_bytes(WeightFormat::Q4_K, 576), Error);
  EXPECT_THROW(quant::row_bytes(WeightFormat::F16, -1), Error);
  EXPECT_THROW(quant::row_bytes(WeightFormat::F32, int64_t{1} << 62), Error);
}

TEST(Simd, NamesParseBack) {
  for (const char* text :
       {"scalar", "avx2", "avx2+vnni", "avx512", "avx512+vnni", "avx512+vnni+bf16+vbmi", "avx512+bf16+amx"}) {
    EXPECT_EQ(name(parse_simd(text)), text);
  }
  EXPECT_EQ(name(parse_simd("avx512+vbmi+vnni")), "avx512+vnni+vbmi");
}

TEST(Simd, NonsenseIsRefused) {
  for (const char* text : {"", "sse", "avx512+", "avx512++vnni", "scalar+vnni", "avx2+bf16", "avx512+amx", "AVX2"}) {
    EXPECT_THROW(parse_simd(text), Error) << text;
  }
}

TEST(Simd, MoreThanThereIsIsNotSupported) {
  Simd avx2;
  avx2.level = SimdLevel::Avx2;
  Simd plain512;
  plain512.level = SimdLevel::Avx512;
  Simd full = plain512;
  full.bf16 = true;
  EXPECT_TRUE(simd_supports(full, plain512));
  EXPECT_TRUE(simd_supports(full, avx2));
  EXPECT_TRUE(simd_supports(avx2, Simd{}));
  EXPECT_FALSE(simd_supports(plain512, full));
  EXPECT_FALSE(simd_supports(avx2, plain512));
}

TEST(Simd, ChosenSetIsOneThatTheCpuHas) {
  EXPECT_TRUE(simd_supports(kernels::cpu::detect_simd(), kernels::cpu::simd()));
}

}  // namespace
}  // namespace slmi
