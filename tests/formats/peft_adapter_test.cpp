// PEFT adapters: PEFT's own directory read, ours written and read back, refusals by key and tensor.
#include "slmi/formats/peft_adapter.h"

#include <cmath>
#include <numeric>

#include "test_files.h"

namespace slmi::formats {
namespace {

double sum_of(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(PeftAdapter, ReadsWhatPeftWrote) {
  ASSERT_TRUE(PeftAdapter::is_adapter(golden("peft")));
  const auto adapter = PeftAdapter::open(golden("peft"));
  EXPECT_EQ(adapter.config().r, 2);
  EXPECT_EQ(adapter.config().alpha, 6.0);
  EXPECT_EQ(adapter.config().dropout, 0.1);
  EXPECT_EQ(adapter.config().scale(), 3.0);
  EXPECT_EQ(adapter.config().base_model_name_or_path, "");
  EXPECT_EQ(adapter.config().target_modules, (std::vector<std::string>{"q_proj", "v_proj", "down_proj"}));
  EXPECT_EQ(adapter.pairs().size(), 6u);
  const auto& down = adapter.pairs().at({1, LlamaModule::DownProj});
  EXPECT_EQ(down.a.rows, 2);
  EXPECT_EQ(down.a.columns, 24);
  EXPECT_EQ(down.b.rows, 16);
  EXPECT_EQ(down.b.columns, 2);
  const auto sums = read_json_file(golden("peft_sums.json").string());
  ASSERT_EQ(sums.size(), 12u);
  for (const auto& [key, pair] : adapter.pairs()) {
    const auto a = peft_tensor_name(key.first, key.second, LoraSide::A);
    const auto b = peft_tensor_name(key.first, key.second, LoraSide::B);
    EXPECT_NEAR(sum_of(pair.a.floats()), sums.at(a).get<double>(), 1e-9) << a;  // f64 sums of at most 48 values
    EXPECT_NEAR(sum_of(pair.b.floats()), sums.at(b).get<double>(), 1e-9) << b;
  }
}

Json good_config() {
  return read_json_file(golden("peft/adapter_config.json").string());
}

struct Refusal {
  const char* key;
  const char* value;
  const char* message;
};

class RefusedAdapter : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedAdapter, NamesTheKey) {
  Json j = good_config();
  j[GetParam().key] = parse_json(GetParam().value, "literal");
  expect_input_error({"a.json", GetParam().key, GetParam().message}, [&] { parse_peft_config(j, "a.json"); });
}

INSTANTIATE_TEST_SUITE_P(
    Keys, RefusedAdapter,
    testing::Values(Refusal{"peft_type", R"("IA3")", "only \"LORA\""}, Refusal{"use_dora", "true", "not supported"},
                    Refusal{"modules_to_save", R"(["lm_head"])", "not supported"},
                    Refusal{"bias", R"("all")", "only \"none\""}, Refusal{"fan_in_fan_out", "true", "not supported"},
                    Refusal{"rank_pattern", R"({"q_proj": 4})", "one rank"},
                    Refusal{"alpha_pattern", R"({"q_proj": 4})", "one rank and alpha"},
                    Refusal{"lora_bias", "true", "not supported"},
                    Refusal{"layer_replication", "[[0, 2]]", "not supported"},
                    Refusal{"trainable_token_indices", "[1]", "not supported"},
                    Refusal{"target_parameters", R"(["x"])", "not supported"},
                    Refusal{"init_lora_weights", R"("pissa_niter_4")", "changes the base"},
                    Refusal{"task_type", R"("SEQ_CLS")", "CAUSAL_LM"},
                    Refusal{"target_modules", R"(["q_proj", "lm_head"])", "\"lm_head\" is not supported"},
                    Refusal{"target_modules", "null", "missing"}, Refusal{"target_modules", "3", "expected a list"},
                    Refusal{"r", "0", "from 1"}, Refusal{"lora_alpha", R"("x")", "expected a number"},
                    Refusal{"lora_dropout", "2", "from 0 to 1"}, Refusal{"use_rslora", "1", "true or false"}));

TEST(PeftConfig, AcceptsWhatMeansNothing) {
  Json j = good_config();
  j["rank_pattern"] = {{"q_proj", 2}};
  j["alpha_pattern"] = {{"q_proj", 6}};
  j["a_key_of_the_future"] = "ignored";
  j["modules_to_save"] = Json::array();
  j["use_rslora"] = true;
  j["target_modules"] = {"model.layers.0.self_attn.q_proj", "v_proj"};
  const auto c = parse_peft_config(j, "a.json");
  EXPECT_DOUBLE_EQ(c.scale(), 6.0 / std::sqrt(2.0));
  EXPECT_EQ(c.target_modules, (std::vector<std::string>{"q_proj", "v_proj"}));
  j["target_modules"] = "all-linear";
  EXPECT_TRUE(parse_peft_config(j, "a.json").target_modules.empty());
  expect_input_error({"a.json", "expected an object"}, [] { parse_peft_config(Json(3), "a.json"); });
}

/// A small adapter whose pieces tests can break.
class Written : public testing::Test {
 protected:
  Written() {
    config_.r = 2;
    config_.alpha = 4;
    config_.target_modules = {"q_proj"};
    config_.base_model_name_or_path = "some/base";
    tensors_ = {{peft_tensor_name(0, LlamaModule::QProj, LoraSide::A), Dtype::F32, {2, 3}, bytes_of(values_)},
                {peft_tensor_name(0, LlamaModule::QProj, LoraSide::B), Dtype::F32, {3, 2}, bytes_of(values_)}};
  }
  void write() const { write_peft_adapter(dir_ / "adapter", config_, tensors_); }
  void refused(const std::vector<std::string>& parts) const {
    write();
    expect_input_error(parts, [&] { PeftAdapter::open(dir_ / "adapter"); });
  }

  TemporaryDirectory dir_;
  PeftConfig config_;
  std::vector<float> values_ = {1, 2, 3, 4, 5, 6};
  std::vector<OutputTensor> tensors_;
};

TEST_F(Written, IsReadBack) {
  write();
  const auto adapter = PeftAdapter::open(dir_ / "adapter");
  EXPECT_EQ(adapter.config().r, 2);
  EXPECT_EQ(adapter.config().base_model_name_or_path, "some/base");
  EXPECT_EQ(adapter.pairs().at({0, LlamaModule::QProj}).b.floats(), values_);
  EXPECT_EQ(tensors_[0].name, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  const auto first = read_text(dir_ / "adapter/adapter_config.json");
  write();
  EXPECT_EQ(read_text(dir_ / "adapter/adapter_config.json"), first);
}

TEST_F(Written, TargetsComeFromTheTensorsWhenTheConfigHasAPattern) {
  write();
  Json j = read_json_file((dir_ / "adapter/adapter_config.json").string());
  j["target_modules"] = "all-linear";
  write_text(dir_ / "adapter/adapter_config.json", j.dump());
  EXPECT_EQ(PeftAdapter::open(dir_ / "adapter").config().target_modules, std::vector<std::string>{"q_proj"});
}

TEST_F(Written, RefusesWrongTensors) {
  const auto good = tensors_;
  tensors_[1].shape = {2, 3};
  refused({"layers.0.self_attn.q_proj", "lora_B [2, 3]", "r is 2"});
  tensors_ = {good[0]};
  refused({"layers.0.self_attn.q_proj has no lora_B"});
  tensors_ = {good[1]};
  refused({"layers.0.self_attn.q_proj has no lora_A"});
  tensors_ = {};
  refused({"holds no LoRA matrices"});
  for (const char* name : {"base_model.model.lm_head.lora_A.weight",
                           "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
                           "base_model.model.model.layers.00.self_attn.q_proj.lora_A.weight",
                           "base_model.model.model.layers.0.mlp.q_proj.lora_A.weight",
                           "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"}) {
    tensors_ = good;
    tensors_[0].name = name;
    refused({name, "is not supported"});
  }
  tensors_ = good;
  tensors_[0].dtype = Dtype::I32;
  refused({"lora_A.weight' is I32"});
  tensors_ = good;
  config_.target_modules = {"k_proj"};
  refused({"matrices of q_proj, which target_modules does not list", "no matrices of k_proj"});
}

TEST_F(Written, MissingFilesAreNamed) {
  EXPECT_FALSE(PeftAdapter::is_adapter(dir_.path()));
  expect_input_error({"adapter_config.json"}, [&] { PeftAdapter::open(dir_.path()); });
  write();
  std::filesystem::remove(dir_ / "adapter/adapter_model.safetensors");
  expect_input_error({"adapter_model.safetensors"}, [&] { PeftAdapter::open(dir_ / "adapter"); });
  write_text(dir_ / "adapter/adapter_model.bin", "x");
  expect_input_error({"adapter_model.bin is pickled"}, [&] { PeftAdapter::open(dir_ / "adapter"); });
}

TEST(LlamaModules, NamesAreReadBack) {
  for (int i = 0; i < kNumLlamaModules; ++i) {
    const auto module = static_cast<LlamaModule>(i);
    EXPECT_EQ(parse_llama_module(llama_module_name(module)), module);
    EXPECT_TRUE(llama_module_path(module).ends_with(llama_module_name(module)));
  }
  expect_error(ErrorKind::Usage, {"'x_proj'", "gate_proj"}, [] { parse_llama_module("x_proj"); });
}

}  // namespace
}  // namespace slmi::formats
