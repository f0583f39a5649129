// The forward pass against transformers (f32), and against itself: packed, cached, prefix-shared.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "reference.h"
#include "slmi/model/kv_cache.h"
#include "small_gguf.h"

namespace slmi::model::testing {
namespace {

class TinyLlama : public ::testing::TestWithParam<std::string> {};

TEST_P(TinyLlama, LogitsAreThoseOfTransformers) {
  const auto llama = load(golden_dir() + "/" + GetParam());
  const Json& want = golden()[GetParam()];
  const int64_t n = want["tokens"], keep = want["keep"];
  const at::Tensor got = logits_of(*llama, tokens(n, 96, want["seed"])).narrow(0, n - keep, keep);
  const auto rows = want["logits"].get<std::vector<std::vector<double>>>();
  at::Tensor reference = at::empty({keep, 96}, at::kDouble);
  for (int64_t i = 0; i < keep; ++i) reference[i].copy_(at::tensor(rows[static_cast<size_t>(i)], at::kDouble));
  EXPECT_LT(relative_error(got, reference), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(All, TinyLlama, ::testing::Values("tiny-gqa-llama3", "tiny-tied"), [](const auto& info) {
  return info.param == "tiny-tied" ? "Tied" : "GroupedLlama3Beyond8192";
});

TEST(SmolLM2, GreedyAnswersAndLogProbabilitiesAreThoseOfTransformers) {
  SLMI_REQUIRE_SMOLLM2();
  const auto llama = load(*smollm2_path());
  for (const auto& g : golden()["smollm2"]) {
    std::vector<int32_t> ids = g["prompt"];
    const std::vector<int32_t> answer = g["answer"];
    ASSERT_GE(answer.size(), 32u);
    const size_t prompt = ids.size();
    ids.insert(ids.end(), answer.begin(), answer.end());
    const at::Tensor lp = at::log_softmax(logits_of(*llama, ids).to(at::kDouble), 1);
    for (size_t i = 0; i < answer.size(); ++i) {
      const at::Tensor row = lp[static_cast<int64_t>(prompt + i) - 1];
      EXPECT_EQ(row.argmax().item<int64_t>(), answer[i]) << g["text"] << " token " << i;
      for (size_t k = 0; k < 5; ++k)
        EXPECT_NEAR(row[g["top_ids"][i][k].get<int64_t>()].item<double>(),
                    g["top_log_probabilities"][i][k].get<double>(), 1e-3);
    }
  }
}

TEST(Forward, PackedSegmentsDoNotSeeEachOther) {
  const auto llama = load(golden_dir() + "/tiny-tied");
  const auto a = tokens(17, 96, 5), b = tokens(9, 96, 6);
  std::vector<int32_t> both = a;
  both.insert(both.end(), b.begin(), b.end());
  ForwardContext context;
  llama->reserve_positions(17);
  context.positions = at::cat({at::arange(17, at::kInt), at::arange(9, at::kInt)});
  context.plan = ops::AttentionPlan({{0, 17, 0, 0, 0, 17}, {17, 9, 0, 0, 17, 9}}, at::kCPU);
  const at::Tensor packed = llama->head(llama->forward(at::tensor(both, at::kInt), context));
  EXPECT_LT(relative_error(packed.narrow(0, 0, 17), logits_of(*llama, a)), 1e-5);
  EXPECT_LT(relative_error(packed.narrow(0, 17, 9), logits_of(*llama, b)), 1e-5);
}

TEST(Forward, DecodingWithTheCacheEqualsPrefill) {
  for (const std::string name : {"tiny-tied", "tiny-gqa-llama3"}) {
    const auto llama = load(golden_dir() + "/" + name);
    const auto ids = tokens(40, 96, 7);
    const at::Tensor want = logits_of(*llama, ids);
    // Tokens 0..9 are a shared prefix in rows 50.., 10..24 are prefilled into rows 3.., then one token at a time.
    KvCache cache(llama->config(), 64, at::kFloat, at::kCPU);
    llama->reserve_positions(40);
    const auto run = [&](int64_t first, int64_t count, int64_t cache_row, ops::AttentionSegment segment) {
      ForwardContext context;
      context.positions = at::arange(first, first + count, at::kInt);
      context.plan = ops::AttentionPlan({segment}, at::kCPU);
      context.cache = &cache;
      context.cache_rows = at::arange(cache_row, cache_row + count, at::kLong);
      const at::Tensor part =
          at::tensor(std::vector<int32_t>(ids.begin() + first, ids.begin() + first + count), at::kInt);
      const at::Tensor got = llama->head(llama->forward(part, context));
      EXPECT_LT(relative_error(got, want.narrow(0, first, count)), 1e-5) << name << " from token " << first;
    };
    run(0, 10, 50, {0, 10, 0, 0, 50, 10});
    run(10, 15, 3, {0, 15, 50, 10, 3, 15});
    for (int64_t i = 25; i < 40; ++i) run(i, 1, 3 + i - 10, {0, 1, 50, 10, 3, i - 10 + 1});
  }
}

class BaseFormats : public ::testing::TestWithParam<at::DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == at::kCUDA && !at::hasCUDA()) GTEST_SKIP() << "no GPU here";
  }
};

TEST_P(BaseFormats, BlocksAreKeptWhereTheyAreAskedFor) {
  using quant::WeightFormat;
  for (const auto stored : {WeightFormat::Q8_0, WeightFormat::Q4_K, WeightFormat::Q6_K}) {
    const SmallGguf file(stored);
    at::Tensor first;
    for (const auto& [wanted, held] : {std::pair{BaseFormat::Stored, stored},
                                       std::pair{BaseFormat::Auto, GetParam() == at::kCPU ? stored : WeightFormat::F32},
                                       std::pair{BaseFormat::F32, WeightFormat::F32}}) {
      LoadOptions options;
      options.base_format = wanted;
      options.device = GetParam();
      options.residency = ops::Residency::Transient;
      const auto llama = load(file.path(), options);
      EXPECT_EQ(llama->blocks()[0].qkv.matrices()[0].format(), held) << quant::name(stored);
      EXPECT_EQ(llama->blocks()[1].down.matrices()[0].format(), held) << quant::name(stored);
      EXPECT_EQ(llama->embedding().format(), held) << quant::name(stored);
      EXPECT_EQ(&llama->output_matrix(), &llama->embedding());
      const at::Tensor logits = logits_of(*llama, tokens(20, file.vocab_size(), 3));
      if (!first.defined()) first = logits;
      EXPECT_TRUE(at::equal(logits, first)) << "the same numbers, " << quant::name(stored);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, BaseFormats, ::testing::Values(at::kCPU, at::kCUDA),
                         [](const auto& info) { return info.param == at::kCPU ? "Cpu" : "Gpu"; });

TEST(Forward, NF4AndBf16BasesRunAndDifferFromTheStoredOne) {
  SLMI_REQUIRE_SMOLLM2();
  const std::vector<int32_t> ids = golden()["smollm2"][0]["prompt"];
  const auto stored = load(*smollm2_path());
  const at::Tensor want = at::log_softmax(logits_of(*stored, ids), 1);
  LoadOptions nf4;
  nf4.base_format = BaseFormat::NF4;
  nf4.residency = ops::Residency::Transient;
  const at::Tensor quantized = at::log_softmax(logits_of(*load(*smollm2_path(), nf4), ids), 1);
  LoadOptions bf16;
  bf16.policy.compute = ops::Compute::BF16;
  const at::Tensor half = at::log_softmax(logits_of(*load(*smollm2_path(), bf16), ids).to(at::kFloat), 1);
  const auto last = static_cast<int64_t>(ids.size()) - 1;
  const auto distance = [&](const at::Tensor& x) {  // Kullback-Leibler divergence at the last position
    return (want[last].exp() * (want[last] - x[last])).sum().item<double>();
  };
  EXPECT_GT(distance(quantized), 1e-6);  // another format did something
  EXPECT_LT(distance(quantized), 1.0);
  EXPECT_LT(distance(half), 0.05);
}

}  // namespace
}  // namespace slmi::model::testing
