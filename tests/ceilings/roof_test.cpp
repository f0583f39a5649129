// The roof against figures worked out by hand, on the shape of Llama 3.2 1B.
#include "slmi/ceilings/roof.h"

#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "../base/temporary_directory.h"
#include "../formats/tiny_model.h"
#include "slmi/formats/checkpoint.h"

namespace slmi::ceilings {
namespace {

// A layer: q and o 2048 x 2048, k and v 512 x 2048, gate, up and down 8192 x 2048: 60,817,408 weights; 16 layers.
constexpr double kBlocks = 973'078'528.0;
constexpr double kHead = 262'668'288.0;  // 128256 x 2048, tied

formats::LlamaConfig llama_1b() {
  formats::LlamaConfig config;
  config.hidden_size = 2048;
  config.intermediate_size = 8192;
  config.num_layers = 16;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 64;
  config.vocab_size = 128256;
  config.tie_word_embeddings = true;
  return config;
}

ModelWork work_1b(const char* format) {
  const auto config = llama_1b();
  return model_work(config, weight_bits(format, config));
}

/// Tokens a second of one row with hardly any context.
double tokens_per_s(const ModelWork& work, double read_gb_per_s, double gflops) {
  const RoofTimes times = roof(work, read_gb_per_s, gflops, 1, 2, 1);
  EXPECT_EQ(times.decode_bound_by, "memory");
  return 1e3 / times.tpot_ms;
}

TEST(ModelWork, CountsBytesAndOperations) {
  const ModelWork work = model_work(llama_1b(), {});
  EXPECT_DOUBLE_EQ(work.decode_weight_bytes, 2 * (kBlocks + kHead));  // 2.47 GB
  EXPECT_DOUBLE_EQ(work.prefill_weight_bytes, work.decode_weight_bytes);
  EXPECT_DOUBLE_EQ(work.flops_per_token, 2 * kBlocks);
  EXPECT_DOUBLE_EQ(work.head_flops, 2 * kHead);
  EXPECT_DOUBLE_EQ(work.attention_flops_per_position, 4 * 16 * 32 * 64);
  EXPECT_DOUBLE_EQ(work.kv_bytes_per_position, 2 * 16 * 8 * 64 * 2);
  auto separate = llama_1b();
  separate.tie_word_embeddings = false;  // rows of the embedding are read then, and the head as before
  EXPECT_DOUBLE_EQ(model_work(separate, {}).decode_weight_bytes, work.decode_weight_bytes);
  EXPECT_DOUBLE_EQ(model_work(llama_1b(), {4, 8, 32}).decode_weight_bytes, kBlocks / 2 + kHead);
  EXPECT_DOUBLE_EQ(model_work(llama_1b(), {4, 8, 32}).kv_bytes_per_position, 2 * 16 * 8 * 64 * 4);
}

TEST(ModelWork, TakesTheBytesOfAnArtefact) {
  const TemporaryDirectory dir;
  const formats::TinyModel model(formats::tiny_config());
  model.write_directory(dir / "model");
  const auto checkpoint = formats::Checkpoint::open(dir / "model");
  const ModelWork work = model_work(*checkpoint);
  // A layer: q and o 32 x 32, k and v 16 x 32, three of 48 x 32: 7,680 weights; two layers; head 20 x 32; f32.
  EXPECT_DOUBLE_EQ(work.decode_weight_bytes, 4.0 * (2 * 7680 + 640));
  EXPECT_DOUBLE_EQ(work.flops_per_token, 2.0 * 2 * 7680);
  EXPECT_DOUBLE_EQ(work.head_flops, 2.0 * 640);
  EXPECT_DOUBLE_EQ(work.kv_bytes_per_position, 2 * 2 * 2 * 8 * 2);
  const WeightBits f32 = weight_bits("F32", checkpoint->config());
  EXPECT_DOUBLE_EQ(model_work(checkpoint->config(), f32).decode_weight_bytes, work.decode_weight_bytes);
}

TEST(WeightBits, OfEveryFormat) {
  const auto config = llama_1b();
  const auto expect = [&](const char* format, double blocks, double head) {
    const WeightBits bits = weight_bits(format, config);
    EXPECT_NEAR(bits.blocks, blocks, 1e-12) << format;
    EXPECT_NEAR(bits.head, head, 1e-12) << format;
    EXPECT_EQ(bits.kv, 16) << format;
  };
  expect("f32", 32, 32);
  expect("F16", 16, 16);
  expect("bf16", 16, 16);
  expect("nf4", 4 + 8.0 / 64 + 32.0 / 16384, 16);  // 4.127
  expect("gptq-g32", 4.625, 16);
  expect("gptq-g64", 4.3125, 16);
  expect("GPTQ_G128", 4.15625, 16);
  expect("Q8_0", 8.5, 8.5);
  expect("q4_1", 5, 5);
  expect("Q4_0", 4.5, 6.5625);  // the tied embedding is Q6_K
  // attn_v and ffn_down of layers 0, 1, 4, 7, 10, 13, 14, 15 are Q6_K: 142,606,336 weights.
  expect("Q4_K_M", (142'606'336 * 6.5625 + (kBlocks - 142'606'336) * 4.5) / kBlocks, 6.5625);
}

TEST(WeightBits, UnknownFormatsAreNamed) {
  SLMI_EXPECT_ERROR(Usage, "'gptq-g46': the bits of this format are not known; did you mean gptq-g64?",
                    weight_bits("gptq-g46", llama_1b()));
  SLMI_EXPECT_ERROR(Usage, "known are nf4, gptq-g32,", weight_bits("parquet files", llama_1b()));
}

TEST(Roof, DecodeOfOneRowIsItsBytesOverTheBandwidth) {
  // H200: 2.47 GB at 4.3 TB/s.
  EXPECT_NEAR(tokens_per_s(work_1b("bf16"), 4300, 790e3), 1740, 1);
  // 4-bit blocks with a 16-bit head (0.502 + 0.525 GB), and with a head of 8.5 bits (0.502 + 0.279 GB).
  EXPECT_NEAR(tokens_per_s(work_1b("nf4"), 4300, 790e3), 4186, 2);
  const WeightBits small_head = {4.126953125, 8.5, 16};
  EXPECT_NEAR(tokens_per_s(model_work(llama_1b(), small_head), 4300, 790e3), 5505, 2);
  // Two cores at 34 GB/s: 2.471, 1.313 and 0.800 GB.
  EXPECT_NEAR(tokens_per_s(work_1b("F16"), 34, 406), 13.76, 0.005);
  EXPECT_NEAR(tokens_per_s(work_1b("Q8_0"), 34, 406), 25.89, 0.01);
  EXPECT_NEAR(tokens_per_s(work_1b("Q4_K_M"), 34, 406), 42.52, 0.01);
}

TEST(Roof, ARequestByHand) {
  // bf16, 34 GB/s, 406 GFLOP/s, 128 prompt tokens and 20 answer tokens.
  const RoofTimes times = roof(work_1b("bf16"), 34, 406, 128, 20, 1);
  // 128 * 1.946157056 + 0.525336576 + 131072e-9 * 128 * 129 / 2 = 250.715570176 GFLOP; bytes alone would take 73 ms.
  EXPECT_NEAR(times.ttft_ms, 617.526, 0.001);
  EXPECT_EQ(times.prefill_bound_by, "matrix products");
  // Passes 2 .. 20 see 129 .. 147 positions, 138 in the mean: 2,471,493,632 + 138 * 32,768 bytes.
  EXPECT_NEAR(times.tpot_ms, 72.8240, 0.0001);
  EXPECT_EQ(times.decode_bound_by, "memory");
  EXPECT_NEAR(times.e2e_ms, 617.526 + 19 * 72.8240, 0.01);
  EXPECT_NEAR(times.requests_per_s, 0.49971, 0.00001);
}

TEST(Roof, LargeBatchesAreBoundByProducts) {
  const RoofTimes times = roof(work_1b("bf16"), 34, 406, 128, 20, 64);
  // 64 * (1.946157056 + 0.525336576 + 131072e-9 * 138) = 159.333220352 GFLOP against 2.76 GB.
  EXPECT_NEAR(times.tpot_ms, 392.446, 0.001);
  EXPECT_EQ(times.decode_bound_by, "matrix products");
  EXPECT_NEAR(times.requests_per_s, 64 / times.e2e_ms * 1e3, 1e-9);
}

TEST(Roof, ACachedPrefixIsNeitherComputedNorReadTwice) {
  // 64 of 84 prompt tokens are cached: 20 * 1.946157056 + 0.525336576 + 131072e-9 * (84 * 85 - 64 * 65) / 2 GFLOP.
  const RoofTimes one = roof(work_1b("bf16"), 34, 406, 84, 20, 1, 64);
  EXPECT_NEAR(one.ttft_ms, 97.645, 0.001);
  EXPECT_NEAR(one.tpot_ms, roof(work_1b("bf16"), 34, 406, 84, 20, 1).tpot_ms, 1e-9) << "one row reads all it sees";
  // Of eight rows, each of 94 positions, the 64 shared ones count once: 304 positions.
  const RoofTimes eight = roof(work_1b("bf16"), 34, 406, 84, 20, 8, 64);
  EXPECT_NEAR(eight.tpot_ms, 72.98397, 0.00001);
}

TEST(Roof, AnAnswerOfOneTokenEndsWithThePrefill) {
  const RoofTimes times = roof(work_1b("bf16"), 34, 406, 128, 1, 1);
  EXPECT_DOUBLE_EQ(times.e2e_ms, times.ttft_ms);
  EXPECT_NEAR(times.tpot_ms, (2 * (kBlocks + kHead) + 129 * 32768) / 34e6, 1e-9);
}

TEST(Roof, RefusesWhatMakesNoSense) {
  const ModelWork work = work_1b("bf16");
  SLMI_EXPECT_ERROR(Usage, "must be positive", roof(work, 0, 406, 1, 1, 1));
  SLMI_EXPECT_ERROR(Usage, "must be positive", roof(work, 34, -1, 1, 1, 1));
  SLMI_EXPECT_ERROR(Usage, "answer tokens", roof(work, 34, 406, 1, 0, 1));
  SLMI_EXPECT_ERROR(Usage, "batch 0", roof(work, 34, 406, 1, 1, 0));
  SLMI_EXPECT_ERROR(Usage, "8 of them cached", roof(work, 34, 406, 8, 1, 1, 8));
}

}  // namespace
}  // namespace slmi::ceilings
