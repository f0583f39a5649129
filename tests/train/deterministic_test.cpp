// On a GPU: two runs under --deterministic, and one that was interrupted, end in the same bytes, however the host's
// steps and the device's follow each other. Rows are longer than our own attention kernels take, so that
// FlashAttention's backward pass is in it, which adds in no order unasked.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <csignal>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/base/random.h"
#include "slmi/formats/safetensors.h"
#include "small_run.h"

namespace slmi::train {
namespace {

using testing::differences;
using testing::Process;
namespace fs = std::filesystem;

constexpr int64_t kVocabulary = 96, kWidth = 256, kFfn = 512, kLayers = 2, kHeads = 4, kKvHeads = 2, kHeadDim = 64;

/// A random model whose heads are 64 wide, as those of Llama 3.2 1B.
void write_base(const fs::path& directory) {
  fs::create_directories(directory);
  write_file_atomically(directory / "config.json", Json{{"architectures", {"LlamaForCausalLM"}},
                                                        {"model_type", "llama"},
                                                        {"hidden_act", "silu"},
                                                        {"hidden_size", kWidth},
                                                        {"intermediate_size", kFfn},
                                                        {"num_hidden_layers", kLayers},
                                                        {"num_attention_heads", kHeads},
                                                        {"num_key_value_heads", kKvHeads},
                                                        {"head_dim", kHeadDim},
                                                        {"max_position_embeddings", 2048},
                                                        {"rms_norm_eps", 1e-5},
                                                        {"rope_theta", 10000.0},
                                                        {"tie_word_embeddings", true},
                                                        {"vocab_size", kVocabulary}}
                                                       .dump());
  std::vector<std::pair<std::string, formats::Shape>> shapes = {{"model.embed_tokens.weight", {kVocabulary, kWidth}},
                                                                {"model.norm.weight", {kWidth}}};
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    const auto add = [&](const char* name, formats::Shape shape) { shapes.emplace_back(layer + name, shape); };
    add("input_layernorm.weight", {kWidth});
    add("post_attention_layernorm.weight", {kWidth});
    add("self_attn.q_proj.weight", {kHeads * kHeadDim, kWidth});
    add("self_attn.k_proj.weight", {kKvHeads * kHeadDim, kWidth});
    add("self_attn.v_proj.weight", {kKvHeads * kHeadDim, kWidth});
    add("self_attn.o_proj.weight", {kWidth, kHeads * kHeadDim});
    add("mlp.gate_proj.weight", {kFfn, kWidth});
    add("mlp.up_proj.weight", {kFfn, kWidth});
    add("mlp.down_proj.weight", {kWidth, kFfn});
  }
  Random random(3);
  std::vector<formats::OutputTensor> tensors;
  for (const auto& [name, shape] : shapes) {
    const bool norm = shape.size() == 1;
    tensors.push_back({name, formats::Dtype::F32, shape, {}, [&random, norm, shape = shape] {
                         std::vector<float> values(static_cast<size_t>(norm ? shape[0] : shape[0] * shape[1]));
                         for (float& x : values) x = static_cast<float>(norm ? 1.0 : 0.06 * random.normal());
                         const auto bytes = std::as_bytes(std::span(values));
                         return std::vector<std::byte>(bytes.begin(), bytes.end());
                       }});
  }
  formats::write_safetensors(directory / "model.safetensors", tensors);
}

/// 24 rows of 300 to 829 tokens, two thirds of them behind an instruction of 280 that they share.
data::EncodedDataset long_rows() {
  std::vector<model::testing::TestRow> rows;
  for (uint64_t i = 0; i < 24; ++i) {
    const bool shares = i % 3 != 2;
    auto ids = model::testing::tokens(280, kVocabulary, shares ? 1 : 300 + i);
    const auto own = model::testing::tokens(20 + static_cast<int64_t>(i * 23), kVocabulary, 500 + i);
    ids.insert(ids.end(), own.begin(), own.end());
    rows.push_back({ids, 285, shares ? 280 : 0});
  }
  return model::testing::dataset(rows);
}

struct Case {
  const char* name;
  ops::Compute compute;
  model::BaseFormat format;
  model::SavePolicy activations;
};

class GpuDeterministic : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU here";
    write_base(here_ / "base");
  }
  /// 18 steps of four rows.
  std::unique_ptr<Process> process() const {
    auto load = testing::load_options({at::kCUDA, 0}, GetParam().compute);
    load.base_format = GetParam().format;
    if (load.base_format == model::BaseFormat::NF4) load.residency = ops::Residency::Transient;
    auto out = std::make_unique<Process>(here_ / "base", load);
    out->rows = long_rows();
    out->config.activations = GetParam().activations;
    out->config.lr = 1e-3;
    out->config.max_seq_len = 1024;
    out->config.micro_tokens = 2048;
    out->config.checkpoint_every = 6;
    out->config.deterministic = true;
    return out;
  }
  TemporaryDirectory here_;
};

TEST_P(GpuDeterministic, TwoRunsAndAnInterruptedOneEndInTheSameBytes) {
  const auto first = process(), second = process();
  const at::Tensor start = first->lora.values().clone();
  first->train_into(here_ / "first");
  second->train_into(here_ / "second");
  EXPECT_EQ(first->records.size(), 18u);
  EXPECT_GT((first->lora.values() - start).abs().max().item<double>(), first->config.lr) << "it learns nothing";
  EXPECT_EQ(differences(here_ / "second", here_ / "first"), std::vector<std::string>{});
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms()) << "the setting ends with the run";

  const auto killed = process();
  killed->hooks.on_step = [](const StepRecord& r, int64_t) {
    if (r.step == 8) throw std::runtime_error("power cut");
  };
  EXPECT_THROW(killed->train_into(here_ / "third"), std::runtime_error);
  const auto resumed = process();
  EXPECT_EQ(resumed->train_into(here_ / "third").resumed_from, 6);
  EXPECT_EQ(differences(here_ / "third", here_ / "first"), std::vector<std::string>{});
}

TEST_P(GpuDeterministic, StepsThatEndBeforeTheNextBeginsGiveTheSameBytes) {
  const auto ahead = process(), apart = process();
  apart->config.checkpoint_every = 1;
  ahead->train_into(here_ / "ahead");
  apart->train_into(here_ / "apart");
  EXPECT_EQ(differences(here_ / "apart", here_ / "ahead"), std::vector<std::string>{});
}

TEST_P(GpuDeterministic, ASignalEndsTheRunAfterTheStepUnderWay) {
  process()->train_into(here_ / "alone");
  // The next step is under way with bf16, but not where a process begins, or a checkpoint is due. f16 has a loss scale,
  // and f32 is not recorded.
  const int64_t ahead = GetParam().compute == ops::Compute::BF16 ? 1 : 0;
  const std::vector<std::pair<int64_t, int64_t>> stops = {{1, 1}, {8, 8 + ahead}, {12, 12}, {16, 16 + ahead}};
  for (const auto& [step, last] : stops) {
    const auto stopped = process();
    std::atomic<int> arrived = 0;
    stopped->hooks.signal = &arrived;
    stopped->hooks.on_step = [&, step = step](const StepRecord& r, int64_t) {
      if (r.step == step) arrived = SIGTERM;
    };
    try {
      stopped->train_into(here_ / "stopped");
      FAIL() << "the run went to its end";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::Terminated);
    }
    EXPECT_EQ(list_checkpoints(here_ / "stopped").back().filename(), fmt::format("step-{:06d}", last));
  }
  EXPECT_EQ(process()->train_into(here_ / "stopped").resumed_from, stops.back().second);
  EXPECT_EQ(differences(here_ / "stopped", here_ / "alone"), std::vector<std::string>{});
}

INSTANTIATE_TEST_SUITE_P(
    Runs, GpuDeterministic,
    ::testing::Values(Case{"Bf16", ops::Compute::BF16, model::BaseFormat::BF16, model::SavePolicy::All},
                      Case{"Nf4", ops::Compute::BF16, model::BaseFormat::NF4, model::SavePolicy::None},
                      Case{"F16", ops::Compute::F16, model::BaseFormat::F16, model::SavePolicy::Light},
                      Case{"F32", ops::Compute::F32, model::BaseFormat::Stored, model::SavePolicy::All}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Deterministic, OnACpuNothingIsAskedForAndTheBytesAreTheSame) {
  TemporaryDirectory here;
  Process plain, asked;
  for (Process* p : {&plain, &asked}) p->config.max_steps = 4;
  asked.config.deterministic = true;
  asked.hooks.on_step = [&](const StepRecord&, int64_t) {
    EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
  };
  plain.train_into(here / "plain");
  asked.train_into(here / "asked");
  EXPECT_EQ(differences(here / "asked", here / "plain"), std::vector<std::string>{});
}

}  // namespace
}  // namespace slmi::train
