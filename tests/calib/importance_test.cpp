// Importances against a plain computation in f64, and what happens to columns that are never used.
#include "slmi/calib/importance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../model/reference.h"
#include "slmi/base/error.h"

namespace slmi::calib {
namespace {

using model::testing::dataset;
using model::testing::golden_dir;
using model::testing::load;

std::vector<model::testing::TestRow> rows() {
  std::vector<model::testing::TestRow> out;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const auto n = static_cast<int64_t>(7 + 3 * seed);
    out.push_back({model::testing::tokens(n, 96, seed), n - 3, 0});
  }
  return out;
}

CalibrationRows packed(int64_t max_rows = 128, int64_t batch_tokens = 2048) {
  return take_calibration_rows(dataset(rows()), {max_rows, 512, batch_tokens}, at::kCPU);
}

/// Mean of the squares of the first layer's normed input, [D], in f64.
at::Tensor first_layer_by_hand(const model::Llama& llama) {
  at::Tensor sum = at::zeros({32}, at::kDouble);
  int64_t tokens = 0;
  for (const auto& row : rows()) {
    const at::Tensor x = llama.embed(at::tensor(row.ids, at::kInt)).to(at::kDouble);
    const at::Tensor scale = (x.square().mean(1, true) + llama.config().rms_norm_eps).rsqrt();
    sum += (x * scale * llama.blocks()[0].norm1.to(at::kDouble)).square().sum(0);
    tokens += static_cast<int64_t>(row.ids.size());
  }
  return sum / static_cast<double>(tokens);
}

TEST(Importance, IsTheMeanSquareOfEachColumnOverAllTokens) {
  const auto llama = load(golden_dir() + "/tiny-tied");
  const auto got = Importances::measure(*llama, packed());
  const at::Tensor want = first_layer_by_hand(*llama);
  for (const char* module : {"q_proj", "k_proj", "v_proj"}) {
    const auto values = got.of(std::string("model.layers.0.self_attn.") + module + ".weight");
    ASSERT_EQ(values.size(), 32u) << module;
    for (size_t i = 0; i < values.size(); ++i) {
      const double w = want[static_cast<int64_t>(i)].item<double>();
      EXPECT_NEAR(values[i], w, 1e-5 * w) << module << " column " << i;
    }
  }
  EXPECT_EQ(packed().num_tokens, 10 + 13 + 16 + 19 + 22);
  EXPECT_EQ(got.of("model.layers.1.mlp.down_proj.weight").size(), 80u);
  EXPECT_EQ(got.of("model.layers.1.self_attn.o_proj.weight").size(), 32u);
  EXPECT_TRUE(got.of("model.embed_tokens.weight").empty());
}

TEST(Importance, DoesNotDependOnHowRowsArePacked) {
  const auto llama = load(golden_dir() + "/tiny-tied");
  const auto whole = Importances::measure(*llama, packed());
  EXPECT_EQ(packed(128, 16).batches.size(), 5u);
  const auto cut = Importances::measure(*llama, packed(128, 16));
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  ASSERT_EQ(whole.of(name).size(), cut.of(name).size());
  for (size_t i = 0; i < whole.of(name).size(); ++i)
    EXPECT_NEAR(whole.of(name)[i], cut.of(name)[i], 1e-4 * whole.of(name)[i]) << i;
  EXPECT_EQ(packed().hash, packed(128, 16).hash);
}

TEST(Importance, RowsAreSpreadAndTheHashTellsThemApart) {
  EXPECT_EQ(packed(2).num_rows, 2);
  EXPECT_EQ(packed(2).num_tokens, 10 + 16);  // rows 0 and 2 of 5
  EXPECT_NE(packed(2).hash, packed().hash);
}

TEST(Importance, AColumnThatIsNeverUsedKeepsASmallWeight) {
  const auto llama = load(golden_dir() + "/tiny-tied");
  llama->blocks()[0].norm1[3] = 0.0F;
  const auto got = Importances::measure(*llama, packed());
  const auto values = got.of("model.layers.0.self_attn.q_proj.weight");
  EXPECT_GT(values[3], 0.0F);
  EXPECT_LT(values[3], 1e-4F * values[4]);
}

TEST(Importance, InputsThatAreNotFiniteAreNamed) {
  const auto llama = load(golden_dir() + "/tiny-tied");
  llama->blocks()[1].norm1[3] = INFINITY;
  try {
    Importances::measure(*llama, packed());
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Numeric);
    EXPECT_NE(std::string(e.what()).find("the inputs of model.layers.1."), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace slmi::calib
