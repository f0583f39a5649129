// LlamaConfig: config.json of several transformers versions, refusals by key, and transformers' own frequencies.
#include "slmi/formats/llama_config.h"

#include <bit>
#include <cmath>

#include "slmi/formats/gguf.h"
#include "test_files.h"

namespace slmi::formats {
namespace {

Json json_of(const char* text) {
  return parse_json(text, "literal");
}

/// Llama-3.2-1B-Instruct's config.json, key by key.
Json llama32() {
  return json_of(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})");
}

Json smallest() {
  return json_of(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "vocab_size": 100})");
}

LlamaConfig read(const Json& json) {
  return LlamaConfig::from_hf_json(json, "dir/config.json");
}

TEST(LlamaConfig, ReadsLlama32) {
  const auto c = read(llama32());
  EXPECT_EQ(c.hidden_size, 2048);
  EXPECT_EQ(c.intermediate_size, 8192);
  EXPECT_EQ(c.num_layers, 16);
  EXPECT_EQ(c.num_heads, 32);
  EXPECT_EQ(c.num_kv_heads, 8);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.vocab_size, 128256);
  EXPECT_EQ(c.rms_norm_eps, 1e-5);
  EXPECT_EQ(c.rope_theta, 500000.0);
  EXPECT_EQ(c.rope_scaling.kind, RopeScalingKind::Llama3);
  EXPECT_EQ(c.rope_scaling.factor, 32.0);
  EXPECT_EQ(c.rope_scaling.original_max_position_embeddings, 8192);
  EXPECT_EQ(c.max_position_embeddings, 131072);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(c.bos_token_id, 128000);
  EXPECT_EQ(c.eos_token_ids, (std::vector<int64_t>{128001, 128008, 128009}));
  EXPECT_FALSE(c.pad_token_id.has_value());
  EXPECT_EQ(c.torch_dtype, "bfloat16");
}

TEST(LlamaConfig, FillsDefaultsAsTransformersDoes) {
  const auto c = read(smallest());
  EXPECT_EQ(c.num_kv_heads, 4);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.rms_norm_eps, 1e-6);
  EXPECT_EQ(c.rope_theta, 10000.0);
  EXPECT_EQ(c.rope_scaling.kind, RopeScalingKind::None);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_TRUE(c.eos_token_ids.empty());
}

TEST(LlamaConfig, AcceptsOldAndNewSpellings) {
  Json j = smallest();
  j["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  EXPECT_EQ(read(j).rope_scaling.kind, RopeScalingKind::Linear);
  j = smallest();
  j["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  EXPECT_EQ(read(j).rope_theta, 5e5);
  EXPECT_EQ(read(j).rope_scaling.kind, RopeScalingKind::None);
  j = smallest();
  j["eos_token_id"] = 2;
  j["pad_token_id"] = -1;
  j["dtype"] = "float16";
  j["sliding_window"] = nullptr;
  EXPECT_EQ(read(j).eos_token_ids, std::vector<int64_t>{2});
  EXPECT_FALSE(read(j).pad_token_id.has_value());
  EXPECT_EQ(read(j).torch_dtype, "float16");
}

TEST(LlamaConfig, GenerationConfigAddsStopIds) {
  auto c = read(llama32());
  c.add_generation_config(json_of(R"({"eos_token_id": [128001, 5]})"), "g.json");
  EXPECT_EQ(c.eos_token_ids, (std::vector<int64_t>{128001, 128008, 128009, 5}));
  expect_input_error({"g.json", "eos_token_id"},
                     [&] { c.add_generation_config(json_of(R"({"eos_token_id": "x"})"), "g.json"); });
}

struct Refusal {
  const char* key;
  const char* value;
  std::vector<std::string> message;
};

class RefusedConfig : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedConfig, NamesTheKey) {
  Json j = llama32();
  j[GetParam().key] = json_of(GetParam().value);
  auto parts = GetParam().message;
  parts.push_back("dir/config.json");
  parts.push_back(GetParam().key);
  expect_input_error(parts, [&] { read(j); });
}

INSTANTIATE_TEST_SUITE_P(
    Keys, RefusedConfig,
    testing::Values(
        Refusal{"model_type", R"("mistral")", {"only \"llama\""}},
        Refusal{"architectures", R"(["LlamaForSequenceClassification"])", {"LlamaForCausalLM"}},
        Refusal{"attention_bias", "true", {"biases"}}, Refusal{"mlp_bias", "true", {"biases"}},
        Refusal{"hidden_act", R"("gelu")", {"only silu"}}, Refusal{"attention_dropout", "0.1", {"dropout"}},
        Refusal{"sliding_window", "4096", {"sliding"}}, Refusal{"num_local_experts", "8", {"experts"}},
        Refusal{"partial_rotary_factor", "0.5", {"partial"}}, Refusal{"compression_config", "{}", {"compressed"}},
        Refusal{"hidden_size", "0", {"expected an integer from 1"}},
        Refusal{"hidden_size", "2048.0", {"expected an integer"}},
        Refusal{"hidden_size", "18446744073709551615", {"expected an integer"}},
        Refusal{"num_hidden_layers", "1000000", {"1000000"}}, Refusal{"num_attention_heads", R"("32")", {"\"32\""}},
        Refusal{"head_dim", "63", {"odd"}}, Refusal{"num_key_value_heads", "5", {"multiple of 5"}},
        Refusal{"rms_norm_eps", "-1", {"expected a number"}}, Refusal{"rope_theta", "0", {"expected a number"}},
        Refusal{"tie_word_embeddings", "1", {"true or false"}},
        Refusal{"eos_token_id", R"([1, "x"])", {"list of them"}}, Refusal{"eos_token_id", "-1", {"list of them"}},
        Refusal{"torch_dtype", "16", {"expected a string"}},
        Refusal{"rope_scaling", R"({"rope_type": "yarn", "factor": 4.0})", {"\"yarn\"", "default, linear and llama3"}},
        Refusal{"rope_scaling", R"({"rope_type": "dynamic", "factor": 4.0})", {"\"dynamic\""}},
        Refusal{"rope_scaling",
                R"({"rope_type": "llama3", "factor": 32.0})",
                {"low_freq_factor is missing", "high_freq_factor is missing", "original_max_position_embeddings is"}},
        Refusal{"rope_scaling", R"({"rope_type": "linear", "factor": 0})", {"factor = 0"}},
        Refusal{"rope_scaling", R"({"factor": 4.0})", {"rope_type is missing"}},
        Refusal{"rope_scaling", R"({"rope_type": "linear", "type": "llama3", "factor": 2.0})", {"type = \"llama3\""}},
        Refusal{"rope_scaling", R"({"rope_type": "linear", "factor": 2.0, "mscale": 1})", {"mscale is not supported"}},
        Refusal{"rope_scaling", "3", {"expected an object"}},
        Refusal{"rope_parameters", R"({"rope_type": "default"})", {"rope_scaling and rope_parameters differ"}},
        Refusal{"rope_scaling",
                R"({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192})",
                {"low_freq_factor 4 must be less"}}));

TEST(LlamaConfig, ReportsAllProblemsAtOnce) {
  Json j = llama32();
  j["hidden_size"] = 0;
  j["vocab_size"] = nullptr;
  j["rope_theta"] = "x";
  expect_input_error({"3 problems", "hidden_size", "vocab_size is missing", "rope_theta"}, [&] { read(j); });
  j = smallest();
  j["num_attention_heads"] = 3;
  expect_input_error({"hidden_size 64 is not a multiple of num_attention_heads 3"}, [&] { read(j); });
  expect_input_error({"dir/config.json", "array; expected an object"}, [&] { read(Json::array()); });
}

TEST(LlamaConfig, KeysThatMeanNothingHereAreKept) {
  Json json = llama32();
  json["pretraining_tp"] = 1;
  json["initializer_range"] = 0.01;
  json["transformers_version"] = "4.45.0.dev0";
  json["use_cache"] = false;
  json["_name_or_path"] = "somewhere/else";
  json["auto_map"] = {{"AutoModel", "code.Model"}};
  json.erase("torch_dtype");
  json["dtype"] = "bfloat16";
  const auto c = read(json);
  const Json written = c.to_hf_json("float16");
  for (const char* key : {"pretraining_tp", "initializer_range", "transformers_version", "use_cache"})
    EXPECT_EQ(written.at(key), json.at(key)) << key;
  for (const char* key : {"_name_or_path", "auto_map", "dtype"}) EXPECT_FALSE(written.contains(key)) << key;
  EXPECT_EQ(written.at("torch_dtype"), "float16");
  EXPECT_EQ(read(written).to_hf_json("float16"), written);
}

TEST(LlamaConfig, WritesWhatItReads) {
  for (Json j : {llama32(), smallest()}) {
    const auto c = read(j);
    const auto written = c.to_hf_json("bfloat16");
    const auto again = read(written);
    EXPECT_EQ(again.to_hf_json("bfloat16"), written);
    EXPECT_EQ(again.rope_inv_freq(), c.rope_inv_freq());
    EXPECT_EQ(again.eos_token_ids, c.eos_token_ids);
    EXPECT_EQ(again.head_dim, c.head_dim);
  }
  EXPECT_EQ(read(llama32()).to_hf_json("bfloat16").at("architectures"), json_of(R"(["LlamaForCausalLM"])"));
}

TEST(Rope, DivisorTableOfLlama32) {
  auto c = read(llama32());
  const auto scaled = c.rope_inv_freq();
  c.rope_scaling = {};
  const auto plain = c.rope_inv_freq();
  ASSERT_EQ(scaled.size(), 32u);
  for (size_t i = 0; i < 32; ++i) {
    const double want = i < 15 ? 1.0 : i == 15 ? 1.651329 : i == 16 ? 3.292262 : i == 17 ? 9.666729 : 32.0;
    EXPECT_NEAR(plain[i] / scaled[i] / want, 1.0, 1e-6) << i;  // f32, and the table has seven digits
  }
}

TEST(Rope, EqualsTransformers) {
  const auto cases = read_json_file(golden("rope.json").string());
  ASSERT_EQ(cases.size(), 6u);
  for (const Json& test : cases) {
    const auto c = LlamaConfig::from_hf_json(test.at("config"), test.at("name").get<std::string>());
    const auto got = c.rope_inv_freq();
    ASSERT_EQ(got.size(), test.at("inv_freq_bits").size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(std::bit_cast<uint32_t>(got[i]), test.at("inv_freq_bits")[i].get<uint32_t>()) << test.at("name") << i;
    }
  }
}

/// Metadata of a small GGUF model and an embedding; tests break one key each.
class GgufConfig : public testing::Test {
 protected:
  GgufWriter writer(const std::string& left_out = {}) const {
    GgufWriter w;
    const auto u32 = [&](const std::string& key, uint32_t value) {
      if (key != left_out) w.add_u32(key, value);
    };
    if (left_out != "general.architecture") w.add_string("general.architecture", "llama");
    u32("llama.embedding_length", 64);
    u32("llama.feed_forward_length", 96);
    u32("llama.block_count", 2);
    u32("llama.attention.head_count", 4);
    u32("llama.attention.head_count_kv", 2);
    u32("llama.context_length", 512);
    if (left_out != "llama.attention.layer_norm_rms_epsilon")
      w.add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    w.add_tensor("token_embd.weight", quant::WeightFormat::F16, {10, 64}, bytes_of(embedding_));
    return w;
  }
  LlamaConfig read(const GgufWriter& w) const {
    w.write(dir_ / "m.gguf");
    return LlamaConfig::from_gguf(GgufFile::open(dir_ / "m.gguf"));
  }
  void refused(const GgufWriter& w, std::vector<std::string> parts) const {
    parts.push_back("m.gguf");
    expect_input_error(parts, [&] { read(w); });
  }

  TemporaryDirectory dir_;
  std::vector<uint16_t> embedding_ = std::vector<uint16_t>(640);
};

TEST_F(GgufConfig, ReadsMetadata) {
  auto w = writer();
  w.add_u32("tokenizer.ggml.eos_token_id", 2);
  w.add_u32("tokenizer.ggml.eot_token_id", 5);
  w.add_u32("tokenizer.ggml.bos_token_id", 1);
  w.add_f32("llama.rope.freq_base", 500000.0f);
  const auto c = read(w);
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.intermediate_size, 96);
  EXPECT_EQ(c.num_layers, 2);
  EXPECT_EQ(c.num_heads, 4);
  EXPECT_EQ(c.num_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.vocab_size, 10);
  EXPECT_EQ(c.max_position_embeddings, 512);
  EXPECT_EQ(c.rms_norm_eps, 1e-5);
  EXPECT_EQ(c.rope_theta, 500000.0);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(c.eos_token_ids, (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(c.bos_token_id, 1);
}

TEST_F(GgufConfig, RefusesByKey) {
  refused(writer("llama.block_count"), {"llama.block_count is missing"});
  refused(writer("llama.attention.layer_norm_rms_epsilon"), {"layer_norm_rms_epsilon is missing"});
  refused(writer("general.architecture"), {"no key 'general.architecture'"});
  const auto with = [&](const char* left_out, auto add) {
    auto w = writer(left_out);
    add(w);
    return w;
  };
  refused(with("general.architecture", [](auto& w) { w.add_string("general.architecture", "qwen2"); }), {"\"qwen2\""});
  refused(with("", [](auto& w) { w.add_string("general.type", "adapter"); }), {"general.type", "\"adapter\""});
  refused(with("", [](auto& w) { w.add_u32("llama.rope.dimension_count", 8); }), {"dimension_count = 8", "partial"});
  refused(with("", [](auto& w) { w.add_string("llama.rope.scaling.type", "yarn"); }), {"scaling.type", "\"yarn\""});
  refused(with("", [](auto& w) { w.add_u32("llama.expert_count", 8); }), {"expert_count"});
  refused(with("", [](auto& w) { w.add_f32("llama.logit_scale", 8); }), {"'llama.logit_scale' is not supported"});
  refused(with("", [](auto& w) { w.add_u32("llama.attention.sliding_window", 8); }), {"sliding_window"});
  refused(with("", [](auto& w) { w.add_bool("llama.attention.causal", false); }), {"causal"});
  refused(with("", [](auto& w) { w.add_u32("llama.vocab_size", 11); }), {"vocab_size = 11", "10 rows"});
  refused(with("", [](auto& w) { w.add_u32("llama.attention.value_length", 32); }), {"value_length = 32"});
  refused(with("llama.attention.head_count_kv",
               [](auto& w) {
                 w.add_i32s("llama.attention.head_count_kv", std::vector<int32_t>{2, 1});
               }),
          {"head_count_kv is an array"});
  refused(with("llama.attention.head_count_kv", [](auto& w) { w.add_u32("llama.attention.head_count_kv", 3); }),
          {"multiple of 3"});
}

TEST_F(GgufConfig, LinearScaling) {
  auto w = writer();
  w.add_string("llama.rope.scaling.type", "linear");
  w.add_f32("llama.rope.scaling.factor", 4.0f);
  const auto c = read(w);
  EXPECT_EQ(c.rope_scaling.kind, RopeScalingKind::Linear);
  EXPECT_EQ(c.rope_inv_freq()[0], 0.25f);
}

/// A llama3-scaled model travels through GGUF as divisors and comes back as the rule.
TEST_F(GgufConfig, Llama3ScalingSurvivesAsDivisors) {
  LlamaConfig rule;
  rule.head_dim = 16;
  rule.rope_theta = 500000.0;
  const auto plain = rule.rope_inv_freq();
  rule.rope_scaling = {RopeScalingKind::Llama3, 32.0, 1.0, 4.0, 8192, {}};
  const auto scaled = rule.rope_inv_freq();
  std::vector<float> divisors(8);
  for (size_t i = 0; i < 8; ++i) divisors[i] = plain[i] / scaled[i];
  auto w = writer();
  w.add_f32("llama.rope.freq_base", 500000.0f);
  w.add_tensor("rope_freqs.weight", quant::WeightFormat::F32, {8}, bytes_of(divisors));
  const auto c = read(w);
  EXPECT_EQ(c.rope_scaling.kind, RopeScalingKind::Divisors);
  const auto got = c.rope_inv_freq();
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(got[i] / scaled[i], 1.0f, 2e-7f) << i;  // two f32 roundings
  const auto back = LlamaConfig::from_hf_json(c.to_hf_json("float16"), "written");
  EXPECT_EQ(back.rope_scaling.kind, RopeScalingKind::Llama3);
  EXPECT_EQ(back.rope_scaling.factor, 32.0);
  EXPECT_EQ(back.rope_inv_freq(), scaled);
}

TEST_F(GgufConfig, StrangeDivisorsCannotBecomeConfigJson) {
  const std::vector<float> divisors = {1, 2, 3, 4, 5, 6, 7, 8};
  auto w = writer();
  w.add_tensor("rope_freqs.weight", quant::WeightFormat::F32, {8}, bytes_of(divisors));
  const auto c = read(w);
  EXPECT_EQ(c.rope_scaling.divisors, divisors);
  expect_error(ErrorKind::Usage, {"divisors"}, [&] { c.to_hf_json("float16"); });
}

TEST_F(GgufConfig, BrokenDivisorsAreRefused) {
  const std::vector<float> zero(8), nan(8, NAN), seven(7, 1.0f);
  for (const auto* divisors : {&zero, &nan, &seven}) {
    auto w = writer();
    w.add_tensor("rope_freqs.weight", quant::WeightFormat::F32, {static_cast<int64_t>(divisors->size())},
                 bytes_of(*divisors));
    refused(w, {"rope_freqs.weight"});
  }
}

}  // namespace
}  // namespace slmi::formats
