// slmi quantize --gguf from every form a model comes in: what is in the file, read by our own reader, and what the
// command says of it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "slmi/base/random.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/formats/provenance.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/text/gguf_tokenizer.h"
#include "support.h"

namespace slmi::cli::testing {
namespace {

using quant::WeightFormat;
using ::testing::HasSubstr;

const char* const kRows =
    R"({"id": "a", "text": "on", "answer": "{\"in\": 1}"}
{"id": "b", "text": "two in one", "answer": "{\"in\": 2}"}
{"id": "c", "text": "rein", "answer": "no"}
)";

class Quantize : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_base(dir_ / "base");
    fs::copy(golden_model("tiny-tied-trained"), dir_ / "adapter");
    write_text(dir_ / "rows.jsonl", kRows);
  }
  Outcome quantize(const std::string& arguments) {
    return run("slmi quantize --gguf --out made.gguf " + arguments, dir_.path());
  }
  void make(const std::string& arguments) {
    const Outcome got = quantize(arguments);
    ASSERT_EQ(got.code, 0) << got.err;
    made_ = formats::Checkpoint::open(dir_ / "made.gguf");
  }
  const formats::GgufFile& file() const { return *made_->gguf(); }
  std::shared_ptr<const formats::Checkpoint> open(const std::string& name) const {
    return formats::Checkpoint::open(dir_ / name);
  }
  void expect_equal_bits(const formats::Checkpoint& want) const {
    EXPECT_EQ(made_->names(), want.names());
    for (const auto& name : want.names()) EXPECT_EQ(values_of(*made_, name), values_of(want, name)) << name;
  }
  Json answer(const std::string& model) {
    const Outcome got = run(
        "slmi predict --compute f32 --max-new-tokens 12 --model " + model + " \"two oat milks please\"", dir_.path());
    EXPECT_EQ(got.code, 0) << got.err;
    return parse_json(got.out, model);
  }
  void expect_same_answer(const std::string& model) {
    const Json want = answer(model), got = answer("made.gguf");
    EXPECT_EQ(got["answer"], want["answer"]);
    EXPECT_NEAR(got["log_probability"].get<double>(), want["log_probability"].get<double>(), 1e-4);
  }
  TemporaryDirectory dir_;
  std::shared_ptr<const formats::Checkpoint> made_;
};

TEST_F(Quantize, F32FromADirectoryHasEqualBits) {
  ASSERT_NO_FATAL_FAILURE(make("--type F32 --model base"));
  const auto base = open("base");
  expect_equal_bits(*base);
  EXPECT_EQ(made_->fingerprint(), base->fingerprint());
  EXPECT_FALSE(file().has("output.weight")) << "the head is tied";
  EXPECT_FALSE(file().has("rope_freqs.weight"));
  expect_same_answer("base");
}

TEST_F(Quantize, MetadataIsComplete) {
  ASSERT_NO_FATAL_FAILURE(make("--type q8_0 --model base --name 'Shop 1'"));
  const auto text = [&](const char* key) { return std::string(file().value(key).as_string()); };
  const auto number = [&](const char* key) { return file().value(key).as_int(); };
  EXPECT_EQ(text("general.architecture"), "llama");
  EXPECT_EQ(text("general.type"), "model");
  EXPECT_EQ(text("general.name"), "Shop 1");
  EXPECT_EQ(number("general.file_type"), 7);
  EXPECT_EQ(number("general.quantization_version"), 2);
  EXPECT_EQ(number("llama.vocab_size"), 96);
  EXPECT_EQ(number("llama.context_length"), 512);
  EXPECT_EQ(number("llama.attention.key_length"), 8);
  EXPECT_EQ(number("llama.rope.dimension_count"), 8);
  EXPECT_EQ(text("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(text("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_EQ(file().value("tokenizer.ggml.tokens").count, 96u);
  EXPECT_EQ(file().value("tokenizer.ggml.token_type").count, 96u);
  EXPECT_EQ(number("tokenizer.ggml.eos_token_id"), 2);
  EXPECT_FALSE(file().value("tokenizer.ggml.add_bos_token").as_bool());
  const auto tokenizer = text::Tokenizer::load(dir_ / "base");
  EXPECT_EQ(text::Tokenizer::from_gguf(file())->hash(), tokenizer->hash());
  EXPECT_EQ(text("tokenizer.chat_template"), text::ChatTemplate::load("chatml", *tokenizer).jinja());
  const auto made = formats::read_provenance(file());
  ASSERT_TRUE(made);
  EXPECT_EQ(made->quantization, "Q8_0");
  EXPECT_EQ(made->template_name, "chatml");
  EXPECT_EQ(made->stop_ids.front(), 2);
  EXPECT_EQ(made->tokenizer_hash, tokenizer->hash());
  EXPECT_THAT(read_text(dir_ / "made.Modelfile"), HasSubstr("FROM ./made.gguf\n"));
}

TEST_F(Quantize, Q8BlocksAreThoseOfTheCodecAndRowsThatDoNotFitAreF16) {
  ASSERT_NO_FATAL_FAILURE(make("--type Q8_0 --model base"));
  const auto base = open("base");
  for (const auto& name : base->names()) {
    const auto shape = base->tensor(name).shape;
    const auto format = shape.size() == 1    ? WeightFormat::F32
                        : shape[1] % 32 == 0 ? WeightFormat::Q8_0
                                             : WeightFormat::F16;  // down_proj: rows of 80
    EXPECT_EQ(made_->tensor(name).format, format) << name;
    if (shape.size() == 1) continue;
    const auto blocks = quant::quantize(format, values_of(*base, name), shape[0], shape[1]);
    EXPECT_EQ(values_of(*made_, name), quant::dequantize(format, blocks, shape[0], shape[1])) << name;
  }
}

TEST_F(Quantize, AnAdapterIsMergedOnTheFly) {
  ASSERT_NO_FATAL_FAILURE(make("--type F32 --model adapter --base base"));
  ASSERT_EQ(run("slmi merge --model adapter --base base --dtype f32 --out merged", dir_.path()).code, 0);
  const auto merged = open("merged");
  for (const auto& name : merged->names()) {
    const auto want = values_of(*merged, name), got = values_of(*made_, name);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << name << " element " << i;
  }
  expect_same_answer("adapter --base base");
  const auto made = formats::read_provenance(file());
  EXPECT_EQ(made->merge_base, "w16");
  EXPECT_EQ(Json(*made->base.lineage), read_json_file((dir_ / "merged/slmi.json").string())["base"]["lineage"]);
}

TEST_F(Quantize, FromAGgufTheVocabularyAndEqualBlocksAreCarriedOver) {
  write_tiny_gguf(dir_ / "tiny.gguf");
  ASSERT_NO_FATAL_FAILURE(make("--type Q8_0 --model tiny.gguf"));
  const auto from = formats::GgufFile::open(dir_ / "tiny.gguf");
  for (const auto& [name, tensor] : from.tensors()) {
    EXPECT_EQ(file().tensor(name).format, tensor.format) << name;
    EXPECT_TRUE(std::ranges::equal(file().tensor(name).bytes, tensor.bytes)) << name;
  }
  for (const char* key : {"tokens", "token_type", "merges", "pre", "bos_token_id", "eos_token_id"}) {
    const std::string full = fmt::format("tokenizer.ggml.{}", key);
    EXPECT_TRUE(std::ranges::equal(file().value(full).payload, from.value(full).payload)) << key;
  }
  expect_same_answer("tiny.gguf");
}

TEST_F(Quantize, Llama3ScalingTravelsAsATensorAndAnUntiedHeadStays) {
  fs::create_directories(dir_ / "scaled");
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy_file(golden_model("tiny-gqa-llama3") / name, dir_ / "scaled" / name);
  write_text(dir_ / "scaled/tokenizer.json", tiny_tokenizer_json());
  ASSERT_NO_FATAL_FAILURE(make("--type F32 --model scaled"));
  const auto scaled = open("scaled");
  expect_equal_bits(*scaled);
  EXPECT_TRUE(file().has("output.weight"));
  ASSERT_EQ(file().tensor("rope_freqs.weight").shape, formats::Shape{4});
  const auto got = made_->config().rope_inv_freq(), want = scaled->config().rope_inv_freq();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1.2e-7 * want[i]) << i;
  EXPECT_FALSE(file().has_key("llama.rope.scaling.type"));
  expect_same_answer("scaled");
}

TEST_F(Quantize, EqualCallsGiveEqualBytes) {
  for (const char* type : {"F16", "BF16", "Q4_0", "Q4_K_M"}) {
    ASSERT_NO_FATAL_FAILURE(make(std::string("--threads 1 --model base --type ") + type));
    const std::string first = read_text(dir_ / "made.gguf");
    ASSERT_NO_FATAL_FAILURE(make(std::string("--threads 1 --model base --type ") + type));
    EXPECT_TRUE(read_text(dir_ / "made.gguf") == first) << type;
  }
}

TEST_F(Quantize, DriftIsMeasuredAndHeldToTheLimit) {
  write_tiny_gguf(dir_ / "tiny.gguf");
  const Outcome got = quantize("--type F32 --model tiny.gguf --val rows.jsonl --compute f32");
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.out, HasSubstr("drift on 3 rows: exact match 0.00 % -> 0.00 % (0 lost, 0 gained, p = 1)"));
  EXPECT_THAT(got.out, HasSubstr("a lower bound: the base tiny.gguf was published in"));
  const Json report = read_json_file((dir_ / "made.report.json").string());
  EXPECT_EQ(report["drift"]["rows"], 3);
  EXPECT_GT(report["drift"]["loss_before"].get<double>(), 0.0);
  EXPECT_NEAR(report["drift"]["loss_before"].get<double>(), report["drift"]["loss_after"].get<double>(), 1e-5);
  EXPECT_TRUE(report["drift_is_lower_bound"].get<bool>());
  EXPECT_EQ(report["tensors"].size(), made_ ? made_->names().size() : open("made.gguf")->names().size());
  for (const Json& tensor : report["tensors"]) EXPECT_EQ(tensor["relative_rmse"], 0.0) << tensor;
}

TEST_F(Quantize, AFallBeyondTheLimitIsExitCode6) {
  // Rows whose expected answers are the model's own: 16 bits keep them, 4 bits of random weights do not.
  std::string requests, rows;
  for (const char* word : {"on",  "in",  "er",  "two", "oats", "milk", "rein", "bid", "cat", "do",  "egg",  "fig",
                           "gin", "hop", "ice", "jam", "kid",  "log",  "map",  "nut", "oil", "pie", "quiz", "rum"})
    requests += std::string(word) + "\n";
  write_text(dir_ / "requests.txt", requests);
  const Outcome got =
      run("cat requests.txt | slmi predict --compute f32 --max-new-tokens 200 --model base", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  std::istringstream lines(got.out);
  int64_t complete = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json answer = parse_json(line, "predict");
    if (!answer["complete"].get<bool>()) continue;
    rows += Json{{"text", answer["text"]}, {"answer", answer["answer"]}}.dump() + "\n";
    ++complete;
  }
  ASSERT_GE(complete, 1) << "no answer ends by itself";
  write_text(dir_ / "own.jsonl", rows);
  const std::string compare = " --model base --val own.jsonl --compute f32 --threads 1";
  const Outcome same = quantize("--type F32" + compare);
  EXPECT_EQ(same.code, 0) << same.err;
  EXPECT_THAT(same.out, HasSubstr("exact match 100.00 % -> 100.00 % (0 lost"));
  const Outcome worse = quantize("--type Q4_0" + compare);
  EXPECT_EQ(worse.code, 6) << worse.out;
  EXPECT_THAT(worse.err, HasSubstr("exact match fell by"));
  EXPECT_TRUE(fs::exists(dir_ / "made.gguf"));
  EXPECT_FALSE(read_json_file((dir_ / "made.report.json").string())["drift"]["lost_ids"].empty());
  EXPECT_EQ(quantize("--type Q4_0 --max-drop 100" + compare).code, 0);
}

TEST_F(Quantize, ErrorsOfEveryTensorAreReported) {
  ASSERT_NO_FATAL_FAILURE(make("--type Q4_0 --model base"));
  const Json report = read_json_file((dir_ / "made.report.json").string());
  int64_t quantized = 0;
  for (const Json& tensor : report["tensors"]) {
    const double error = tensor["relative_rmse"];
    if (tensor["format"] != "Q4_0") continue;
    ++quantized;
    EXPECT_GT(error, 0.02) << tensor;  // 4 bits of a Gaussian: about 0.09
    EXPECT_LT(error, 0.15) << tensor;
  }
  EXPECT_GT(quantized, 10);
}

TEST_F(Quantize, AMixAndOverridesDecideEachTensor) {
  ASSERT_NO_FATAL_FAILURE(make("--tensor-type ffn_gate=q8_0 --tensor-type ffn=q5_1 --model base"));  // Q4_K_M
  EXPECT_EQ(file().value("general.file_type").as_int(), 15);
  // Rows of the tiny model are too short for K blocks: Q4_K falls back to Q5_0, Q6_K to Q8_0.
  EXPECT_EQ(file().tensor("blk.0.attn_q.weight").format, quant::WeightFormat::Q5_0);
  EXPECT_EQ(file().tensor("blk.0.ffn_gate.weight").format, quant::WeightFormat::Q8_0);
  EXPECT_EQ(file().tensor("blk.0.ffn_up.weight").format, quant::WeightFormat::Q5_1);
  EXPECT_EQ(file().tensor("blk.0.ffn_down.weight").format, quant::WeightFormat::F16);  // no multiple of 32
  EXPECT_EQ(file().tensor("blk.0.attn_norm.weight").format, quant::WeightFormat::F32);
}

/// One layer, rows of 256, so that K types fit.
void write_wide(const fs::path& directory) {
  formats::LlamaConfig config;
  config.hidden_size = config.intermediate_size = 256;
  config.num_layers = 1;
  config.num_heads = config.num_kv_heads = 4;
  config.head_dim = 64;
  config.vocab_size = 96;
  config.tie_word_embeddings = true;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  Random random(5);
  std::vector<formats::OutputTensor> tensors;
  for (const auto& expected : formats::expected_tensors(config)) {
    auto values = std::make_shared<std::vector<float>>(formats::num_elements(expected.shape));
    for (float& v : *values) v = static_cast<float>(random.normal());
    formats::OutputTensor tensor{expected.name, formats::Dtype::F32, expected.shape};
    tensor.produce = [values] {
      const auto bytes = std::as_bytes(std::span(*values));
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    };
    tensors.push_back(std::move(tensor));
  }
  fs::create_directories(directory);
  formats::HfWriteOptions options;
  options.dtype = "float32";
  formats::write_hf_directory(directory, config, tensors, {}, options);
  write_text(directory / "tokenizer.json", tiny_tokenizer_json());
}

TEST_F(Quantize, TheDefaultIsTheQ4KMMixAndOverridesHold) {
  write_wide(dir_ / "wide");
  ASSERT_NO_FATAL_FAILURE(make("--model wide --tensor-type ffn_up=Q8_0"));
  const auto format = [&](const char* name) { return file().tensor(name).format; };
  EXPECT_EQ(file().value("general.file_type").as_int(), 15);
  EXPECT_EQ(format("token_embd.weight"), WeightFormat::Q6_K) << "it is the output matrix too";
  EXPECT_EQ(format("blk.0.attn_q.weight"), WeightFormat::Q4_K);
  EXPECT_EQ(format("blk.0.ffn_gate.weight"), WeightFormat::Q4_K);
  EXPECT_EQ(format("blk.0.ffn_up.weight"), WeightFormat::Q8_0);
  EXPECT_EQ(format("blk.0.attn_norm.weight"), WeightFormat::F32);
  EXPECT_EQ(formats::read_provenance(file())->quantization, "Q4_K_M, ffn_up=Q8_0");
  const auto wide = open("wide");
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  const auto blocks = quant::quantize(WeightFormat::Q4_K, values_of(*wide, name), 256, 256);
  EXPECT_EQ(values_of(*made_, name), quant::dequantize(WeightFormat::Q4_K, blocks, 256, 256));
  EXPECT_EQ(quantize("--model wide --tensor-type ffn_up").code, 2);
}

TEST_F(Quantize, CalibrationRowsChangeTheCodes) {
  write_wide(dir_ / "wide");
  ASSERT_NO_FATAL_FAILURE(make("--model wide"));
  const auto plain = values_of(*made_, "model.layers.0.mlp.up_proj.weight");
  const auto embedding = values_of(*made_, "model.embed_tokens.weight");
  std::vector<std::vector<float>> made{plain};
  for (const char* rounding : {"nearest", "gptq"}) {
    const Outcome got =
        quantize(std::string("--model wide --calibration rows.jsonl --compute f32 --rounding ") + rounding);
    ASSERT_EQ(got.code, 0) << got.err;
    EXPECT_THAT(got.out, HasSubstr("calibrating on 3 rows"));
    made_ = open("made.gguf");
    made.push_back(values_of(*made_, "model.layers.0.mlp.up_proj.weight"));
    EXPECT_EQ(std::ranges::count(made, made.back()), 1) << rounding;
    EXPECT_EQ(values_of(*made_, "model.embed_tokens.weight"), embedding) << "no input to weigh it by";
    EXPECT_EQ(formats::read_provenance(file())->calibration_hash.size(), 64u);
  }
  ASSERT_NO_FATAL_FAILURE(make("--model wide --calibration rows.jsonl --calibration-rows 0"));
  EXPECT_EQ(values_of(*made_, "model.layers.0.mlp.up_proj.weight"), plain);
}

TEST_F(Quantize, AnUnknownTypeIsAUsageErrorWithASuggestion) {
  const Outcome got = quantize("--type Q80 --model base");
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("GGUF file type 'Q80': no such type, did you mean Q8_0?"));
  EXPECT_FALSE(fs::exists(dir_ / "made.gguf"));
}

TEST_F(Quantize, InputsAndDirectoriesAreNotOverwritten) {
  write_tiny_gguf(dir_ / "tiny.gguf");
  const std::string before = read_text(dir_ / "tiny.gguf");
  const Outcome same = run("slmi quantize --gguf --model tiny.gguf --out ./tiny.gguf --type F16", dir_.path());
  EXPECT_EQ(same.code, 2);
  EXPECT_THAT(same.err, HasSubstr("input files are never changed"));
  EXPECT_TRUE(read_text(dir_ / "tiny.gguf") == before);
  EXPECT_EQ(run("slmi quantize --gguf --model tiny.gguf --out base", dir_.path()).code, 2);
  EXPECT_EQ(run("slmi quantize --gguf --model tiny.gguf --out m.bin", dir_.path()).code, 2);
  EXPECT_EQ(run("slmi quantize --model tiny.gguf --out m.gguf", dir_.path()).code, 2) << "which form?";
}

TEST_F(Quantize, AValueThatF16CannotHoldLeavesTheOldFile) {
  std::string bytes = read_text(dir_ / "base/model.safetensors");
  const float large = 1e6F;
  bytes.replace(bytes.size() - 4096, 4, std::string(reinterpret_cast<const char*>(&large), 4));
  write_text(dir_ / "base/model.safetensors", bytes);
  write_text(dir_ / "made.gguf", "old");
  const Outcome got = quantize("--type F16 --model base");
  EXPECT_EQ(got.code, 5) << got.err;
  EXPECT_THAT(got.err, HasSubstr("proj.weight' is not finite in F16"));
  EXPECT_EQ(read_text(dir_ / "made.gguf"), "old");
  EXPECT_FALSE(fs::exists(dir_ / "made.Modelfile"));
}

TEST_F(Quantize, AFullDiskIsAnOutputErrorAndLeavesTheOldFile) {
  write_text(dir_ / "made.gguf", "old");
  // 8 blocks of 1024 bytes: less than the file needs.
  const Outcome got =
      run("ulimit -f 8 && trap '' XFSZ && slmi quantize --gguf --type F32 --model base --out made.gguf", dir_.path());
  EXPECT_EQ(got.code, 8) << got.err;
  EXPECT_THAT(got.err, HasSubstr("made.gguf: cannot write"));
  EXPECT_EQ(read_text(dir_ / "made.gguf"), "old");
}

TEST_F(Quantize, TheAdapterAloneIsAGgufAdapter) {
  const Outcome got =
      run("slmi quantize --gguf --adapter-only --model adapter --base base --out lora.gguf", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  const auto file = formats::GgufFile::open(dir_ / "lora.gguf");
  EXPECT_EQ(file.value("general.type").as_string(), "adapter");
  EXPECT_EQ(file.tensors().size(), 28u);  // two sides of seven projections of two layers
  EXPECT_EQ(run("slmi inspect lora.gguf", dir_.path()).code, 0);
  EXPECT_EQ(run("slmi quantize --gguf --adapter-only --model base --out x.gguf", dir_.path()).code, 2);
}

TEST_F(Quantize, WhatIsWrittenIsSoundAndCanBeTrainedOn) {
  ASSERT_NO_FATAL_FAILURE(make("--type Q8_0 --model base"));
  const Outcome inspected = run("slmi inspect made.gguf", dir_.path());
  EXPECT_EQ(inspected.code, 0) << inspected.out << inspected.err;
  // The adapter of the base fits its GGUF form, whose lineage is the base's own.
  EXPECT_EQ(run("slmi predict --model adapter --base made.gguf on", dir_.path()).code, 0);
}

TEST(QuantizeSmolLM2, F16AndQ8KeepTokenizerTemplateAndAnswers) {
  const char* base = std::getenv("SLMI_SMOLLM2_GGUF");
  if (base == nullptr || !fs::exists(base)) GTEST_SKIP() << "SLMI_SMOLLM2_GGUF names no file";
  const TemporaryDirectory dir;
  const std::string model = fs::absolute(base).string();
  const Outcome got = run("slmi quantize --gguf --type Q8_0 --model '" + model + "' --out q8.gguf", dir.path());
  ASSERT_EQ(got.code, 0) << got.err;
  const auto from = formats::GgufFile::open(model), made = formats::GgufFile::open(dir / "q8.gguf");
  EXPECT_EQ(text::Tokenizer::from_gguf(made)->hash(), text::Tokenizer::from_gguf(from)->hash());
  EXPECT_TRUE(std::ranges::equal(made.tensor("token_embd.weight").bytes, from.tensor("token_embd.weight").bytes));
  const auto ask = [&](const std::string& file) {
    return parse_json(
        run("slmi predict --compute f32 --max-new-tokens 16 --model '" + file + "' 'The capital of France is'",
            dir.path())
            .out,
        file);
  };
  const Json want = ask(model), answer = ask("q8.gguf");
  EXPECT_EQ(answer["answer"], want["answer"]);
  EXPECT_NEAR(answer["log_probability"].get<double>(), want["log_probability"].get<double>(), 0.2);
}

}  // namespace
}  // namespace slmi::cli::testing
