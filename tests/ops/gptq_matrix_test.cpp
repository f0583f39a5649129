// A GPTQ matrix in the core: its values by the formula, by rows and by libtorch's operations, are one and the same.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "slmi/base/half.h"
#include "slmi/base/random.h"
#include "slmi/ops/gptq_tensors.h"
#include "slmi/ops/packed_matrix.h"

namespace slmi::ops::testing {
namespace {

/// Three groups; each input in any of them, each output with zeros of its own.
quant::GptqCodes random_codes(int64_t n, int64_t k) {
  Random random(3);
  const auto below = [&](uint64_t bound) { return random.next() % bound; };
  quant::GptqCodes m;
  m.n = n;
  m.k = k;
  m.groups = 3;
  for (int64_t i = 0; i < n * k; ++i) m.codes.push_back(static_cast<uint8_t>(below(16)));
  for (int64_t i = 0; i < n * m.groups; ++i) {
    m.scales.push_back(f16_to_f32(f32_to_f16(0.001F + 0.02F * static_cast<float>(random.uniform()))));
    m.zeros.push_back(static_cast<uint8_t>(below(16)));
  }
  for (int64_t i = 0; i < k; ++i) m.g_idx.push_back(static_cast<int32_t>(below(3)));
  return m;
}

/// f32 [N, K] by the formula.
at::Tensor values_of(const quant::GptqCodes& m) {
  at::Tensor out = at::empty({m.n, m.k}, at::kFloat);
  auto v = out.accessor<float, 2>();
  for (int64_t row = 0; row < m.n; ++row) {
    for (int64_t i = 0; i < m.k; ++i) {
      const auto at = static_cast<size_t>(row * m.groups + m.g_idx[static_cast<size_t>(i)]);
      v[row][i] = m.scales[at] * static_cast<float>(m.codes[static_cast<size_t>(row * m.k + i)] - m.zeros[at]);
    }
  }
  return out;
}

class GptqMatrix : public ::testing::Test {
 protected:
  const quant::GptqCodes codes_ = random_codes(96, 64);
  const std::shared_ptr<const quant::GptqPlanes> planes_ =
      std::make_shared<const quant::GptqPlanes>(quant::gptq_pack(codes_, quant::GptqZeros::AsIs));
  const at::Tensor want_ = values_of(codes_);
  const PackedMatrix matrix_ = PackedMatrix::from_gptq("w", planes_);
};

TEST_F(GptqMatrix, DequantizesToEveryTypeWithStridedRows) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor wide = at::zeros({96, 70}, type);
    matrix_.dequantize_into(wide.narrow(1, 0, 64));
    EXPECT_TRUE(at::equal(wide.narrow(1, 0, 64), want_.to(type))) << type;
    EXPECT_EQ(wide.narrow(1, 64, 6).abs().sum().item<float>(), 0.0F) << type;
  }
}

TEST_F(GptqMatrix, RowsArePickedByIds) {
  const at::Tensor ids = at::tensor({95, 0, 17, 17}, at::kInt);
  EXPECT_TRUE(at::equal(matrix_.rows(ids), want_.index_select(0, ids)));
}

TEST_F(GptqMatrix, KnowsItsSizeAndConverts) {
  EXPECT_EQ(matrix_.format(), quant::WeightFormat::GPTQ);
  EXPECT_EQ(matrix_.bytes(), 96u * 64 / 2 + 3 * 96 / 2 + 2 * 3 * 96 + 4 * 64);
  at::Tensor out = at::empty({96, 64}, at::kFloat);
  matrix_.converted_to(quant::WeightFormat::F32).dequantize_into(out);
  EXPECT_TRUE(at::equal(out, want_));
}

/// The way of a GPU, on this device.
TEST_F(GptqMatrix, TensorsGiveTheSameBits) {
  const GptqTensors tensors = to_tensors(planes_->view(), at::kCPU);
  EXPECT_TRUE(at::equal(dequantize(tensors), want_));
  EXPECT_EQ(tensors.bytes(), 96u * 64 / 2 + 2 * 4 * 3 * 96 + 8 * 64);
}

}  // namespace
}  // namespace slmi::ops::testing
