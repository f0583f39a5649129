// Hyperparameters and adapters in GGUF's form, read back; rotary divisors against the published table.
#include "slmi/formats/gguf_llama.h"

#include <cmath>

#include "slmi/formats/gguf_adapter.h"
#include "test_files.h"
#include "tiny_model.h"

namespace slmi::formats {
namespace {

/// Llama 3.2 1B's rotary embedding (config.json of Llama-3.2-1B).
LlamaConfig llama32_rope() {
  LlamaConfig c = tiny_config();
  c.head_dim = 64;
  c.rope_theta = 500000.0;
  c.rope_scaling = {RopeScalingKind::Llama3, 32.0, 1.0, 4.0, 8192, {}};
  return c;
}

TEST(RopeDivisors, AreThePublishedTable) {
  const auto got = rope_divisors(llama32_rope());
  ASSERT_EQ(got.size(), 32u);
  // llama.cpp's converter writes these for factor 32, computed apart from this program.
  for (size_t i = 0; i < 15; ++i) EXPECT_EQ(got[i], 1.0F) << i;
  EXPECT_NEAR(got[15], 1.651329, 1e-6);
  EXPECT_NEAR(got[16], 3.292262, 2e-6);
  EXPECT_NEAR(got[17], 9.666729, 5e-6);
  for (size_t i = 18; i < 32; ++i) EXPECT_NEAR(got[i], 32.0F, 4e-6) << i;
}

TEST(RopeDivisors, GiveTheScaledFrequenciesBack) {
  const LlamaConfig c = llama32_rope();
  LlamaConfig read = c;
  read.rope_scaling = {};
  read.rope_scaling.kind = RopeScalingKind::Divisors;
  read.rope_scaling.divisors = rope_divisors(c);
  const auto got = read.rope_inv_freq(), want = c.rope_inv_freq();
  int64_t equal = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_LE(std::abs(got[i] - want[i]), std::nextafter(want[i], 1.0F) - want[i]) << i;  // one unit in the last place
    equal += got[i] == want[i] ? 1 : 0;
  }
  EXPECT_GE(equal, 31);  // for one of the 32, no f32 gives the very frequency
}

TEST(RopeDivisors, NoneWhereNoTensorIsNeeded) {
  LlamaConfig c = tiny_config();
  EXPECT_TRUE(rope_divisors(c).empty());
  c.rope_scaling = {RopeScalingKind::Linear, 4.0, 1.0, 4.0, 8192, {}};
  EXPECT_TRUE(rope_divisors(c).empty());
  c.rope_scaling = {RopeScalingKind::Divisors, 1.0, 1.0, 4.0, 8192, {1, 2, 3, 4}};
  EXPECT_EQ(rope_divisors(c), (std::vector<float>{1, 2, 3, 4}));
}

TEST(LlamaKeys, AreReadAsTheyWere) {
  const TemporaryDirectory dir;
  LlamaConfig c = tiny_config();
  c.max_position_embeddings = 4321;
  c.rms_norm_eps = 3e-6;
  c.rope_scaling = {RopeScalingKind::Linear, 2.5, 1.0, 4.0, 8192, {}};
  const std::vector<float> embedding(static_cast<size_t>(c.vocab_size * c.hidden_size), 1.0F);
  GgufWriter w;
  w.add_string("general.architecture", "llama");
  add_llama_keys(w, c);
  w.add_tensor("token_embd.weight", quant::WeightFormat::F32, {c.vocab_size, c.hidden_size}, bytes_of(embedding));
  w.write(dir / "m.gguf");
  const auto got = LlamaConfig::from_gguf(GgufFile::open(dir / "m.gguf"));
  EXPECT_EQ(got.hidden_size, c.hidden_size);
  EXPECT_EQ(got.intermediate_size, c.intermediate_size);
  EXPECT_EQ(got.num_layers, c.num_layers);
  EXPECT_EQ(got.num_heads, c.num_heads);
  EXPECT_EQ(got.num_kv_heads, c.num_kv_heads);
  EXPECT_EQ(got.head_dim, c.head_dim);
  EXPECT_EQ(got.vocab_size, c.vocab_size);
  EXPECT_EQ(got.rms_norm_eps, c.rms_norm_eps);
  EXPECT_EQ(got.rope_theta, c.rope_theta);
  EXPECT_EQ(got.max_position_embeddings, c.max_position_embeddings);
  EXPECT_EQ(got.rope_scaling.kind, RopeScalingKind::Linear);
  EXPECT_EQ(got.rope_scaling.factor, 2.5);
}

/// A rank-2 adapter of one q_proj and one down_proj of the tiny model.
class GgufAdapter : public testing::Test {
 protected:
  GgufAdapter() : values_(96) {
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = static_cast<float>(i);
    peft_.r = 2;
    peft_.alpha = 8;
    peft_.target_modules = {"q_proj", "down_proj"};
    add(0, LlamaModule::QProj, 32, 32);
    add(1, LlamaModule::DownProj, 48, 32);
  }
  void add(int64_t layer, LlamaModule module, int64_t in, int64_t out) {
    const auto bytes = [&](int64_t n) { return std::as_bytes(std::span(values_).first(static_cast<size_t>(n))); };
    tensors_.push_back({peft_tensor_name(layer, module, LoraSide::A), Dtype::F32, {2, in}, bytes(2 * in)});
    tensors_.push_back({peft_tensor_name(layer, module, LoraSide::B), Dtype::F32, {out, 2}, bytes(2 * out)});
  }
  void write(const LlamaConfig& config) {
    write_peft_adapter(dir_ / "adapter", peft_, tensors_);
    write_gguf_adapter(dir_ / "a.gguf", PeftAdapter::open(dir_ / "adapter"), config, "shop", Provenance{});
  }
  std::vector<float> floats(const GgufFile& file, const char* name) {
    return floats_from(Dtype::F32, file.tensor(name).bytes, name);
  }

  TemporaryDirectory dir_;
  PeftConfig peft_;
  std::vector<float> values_;
  std::vector<OutputTensor> tensors_;
};

TEST_F(GgufAdapter, HasLlamaCppsNamesShapesAndRowOrder) {
  write(tiny_config());
  const auto file = GgufFile::open(dir_ / "a.gguf");
  EXPECT_EQ(file.value("general.type").as_string(), "adapter");
  EXPECT_EQ(file.value("adapter.type").as_string(), "lora");
  EXPECT_EQ(file.value("adapter.lora.alpha").as_float(), 8.0);
  EXPECT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensor("blk.0.attn_q.weight.lora_a").shape, (Shape{2, 32}));
  EXPECT_EQ(file.tensor("blk.0.attn_q.weight.lora_b").shape, (Shape{32, 2}));
  EXPECT_EQ(floats(file, "blk.1.ffn_down.weight.lora_b"), std::vector<float>(values_.begin(), values_.begin() + 64));
  // Heads of 8 rows: GGUF's row 2i + j is Hugging Face's row 4j + i.
  const auto b = floats(file, "blk.0.attn_q.weight.lora_b");
  for (size_t row = 0; row < 32; ++row) {
    const size_t head = row / 8, i = row % 8 / 2, j = row % 2, from = head * 8 + j * 4 + i;
    EXPECT_EQ(b[row * 2], values_[from * 2]) << row;
    EXPECT_EQ(b[row * 2 + 1], values_[from * 2 + 1]) << row;
  }
}

TEST_F(GgufAdapter, RankStabilizedScalesAreWrittenAsAlpha) {
  peft_.use_rslora = true;
  write(tiny_config());
  const double alpha = GgufFile::open(dir_ / "a.gguf").value("adapter.lora.alpha").as_float();
  EXPECT_NEAR(alpha / 2, 8 / std::sqrt(2.0), 1e-6);
}

TEST_F(GgufAdapter, OneOfAnotherModelIsRefused) {
  LlamaConfig narrow = tiny_config();
  narrow.hidden_size = 16;
  expect_input_error({"layers.0.self_attn.q_proj.weight' as [32, 32]; the base's is [32, 16]"}, [&] { write(narrow); });
  LlamaConfig shallow = tiny_config();
  shallow.num_layers = 1;
  expect_input_error({"adapts 'model.layers.1.mlp.down_proj.weight', which the base has not"}, [&] { write(shallow); });
  EXPECT_FALSE(std::filesystem::exists(dir_ / "a.gguf"));
}

}  // namespace
}  // namespace slmi::formats
