// slmi merge on the tiny adapter, against the arithmetic done here in double and against the model that is not merged.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "slmi/base/mapped_file.h"
#include "slmi/base/sha256.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/quant/nf4.h"
#include "slmi/text/tokenizer.h"
#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

const char* const kAdapter = "tiny-tied-trained";

/// The adapter of one matrix, if it has one: W += scale * B A, in double.
void add_update(const formats::PeftAdapter& adapter, const std::string& name, std::vector<double>& w) {
  for (const auto& [place, pair] : adapter.pairs()) {
    const auto path = formats::llama_module_path(place.second);
    if (name != fmt::format("model.layers.{}.{}.weight", place.first, path)) continue;
    const auto a = pair.a.floats(), b = pair.b.floats();
    const auto rank = static_cast<size_t>(pair.a.rows), k = static_cast<size_t>(pair.a.columns);
    for (size_t i = 0; i < w.size(); ++i)
      for (size_t r = 0; r < rank; ++r)
        w[i] += adapter.config().scale() * double{b[i / k * rank + r]} * double{a[r * k + i % k]};
  }
}

class Merge : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_base(dir_ / "base");
    fs::copy(golden_model(kAdapter), dir_ / "adapter");
  }
  void merge(const std::string& arguments) {
    const Outcome got = run("slmi merge --model adapter --out merged " + arguments, dir_.path());
    ASSERT_EQ(got.code, 0) << got.err;
    merged_ = formats::Checkpoint::open(dir_ / "merged");
  }
  /// What the merge of a base with the adapter should hold.
  std::vector<double> wanted(const formats::Checkpoint& base, const std::string& name) const {
    const auto values = values_of(base, name);
    std::vector<double> out(values.begin(), values.end());
    add_update(formats::PeftAdapter::open(dir_ / "adapter"), name, out);
    return out;
  }
  Json provenance() const { return read_json_file((dir_ / "merged/slmi.json").string()); }
  Json answer(const std::string& model) {
    const Outcome got = run(
        "slmi predict --compute f32 --max-new-tokens 12 --model " + model + " \"two oat milks please\"", dir_.path());
    EXPECT_EQ(got.code, 0) << got.err;
    return parse_json(got.out, model);
  }
  TemporaryDirectory dir_;
  std::shared_ptr<const formats::Checkpoint> merged_;
};

TEST_F(Merge, InF32EveryMatrixIsTheSumAndTheModelAnswersTheSame) {
  ASSERT_NO_FATAL_FAILURE(merge("--base base --dtype f32"));
  const auto base = formats::Checkpoint::open(dir_ / "base");
  int changed = 0;
  for (const auto& name : base->names()) {
    const auto want = wanted(*base, name);
    const auto got = values_of(*merged_, name), before = values_of(*base, name);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << name << " element " << i;
    changed += got != before ? 1 : 0;
  }
  EXPECT_EQ(changed, 14);  // seven projections of two layers, and nothing else
  const Json run = answer("adapter --base base"), merged = answer("merged"), bare = answer("base");
  EXPECT_EQ(run["answer"], merged["answer"]);
  EXPECT_NEAR(run["log_probability"].get<double>(), merged["log_probability"].get<double>(), 1e-4);
  EXPECT_GT(std::abs(run["log_probability"].get<double>() - bare["log_probability"].get<double>()), 1e-2);
}

TEST_F(Merge, InBf16EverySumIsRoundedOnceAndNormsStayExact) {
  ASSERT_NO_FATAL_FAILURE(merge("--base base"));
  const auto base = formats::Checkpoint::open(dir_ / "base");
  EXPECT_EQ(merged_->fingerprint(), base->fingerprint());
  for (const auto& name : base->names()) {
    if (name.ends_with("norm.weight")) continue;
    EXPECT_EQ(merged_->tensor(name).format, quant::WeightFormat::BF16) << name;
    const auto want = wanted(*base, name);
    const auto got = values_of(*merged_, name);
    for (size_t i = 0; i < got.size(); ++i) {
      // Half a unit in the last of 8 places, and the f32 sum's own error where it decides a tie.
      const double half_unit = std::ldexp(1.0, std::ilogb(want[i]) - 8);
      ASSERT_NEAR(got[i], want[i], half_unit + 1e-6) << name << " element " << i;
    }
  }
  EXPECT_EQ(read_json_file((dir_ / "merged/config.json").string())["torch_dtype"], "bfloat16");
}

TEST_F(Merge, ProvenanceRecordsBaseLineageAdapterAndMergeBase) {
  ASSERT_NO_FATAL_FAILURE(merge("--base base"));
  const auto base = formats::Checkpoint::open(dir_ / "base");
  const Json p = provenance();
  EXPECT_EQ(p["merge_base"], "w16");
  const std::string adapter = sha256_hex(MappedFile::open(dir_ / "adapter/adapter_model.safetensors").text());
  EXPECT_EQ(p["base"]["lineage"], Json::array({base->fingerprint(), adapter}));
  EXPECT_THAT(p["adapter"].get<std::string>(), HasSubstr(adapter));
  EXPECT_EQ(p["template"]["name"], "chatml");
  EXPECT_EQ(p["stop_ids"][0], 2);
  EXPECT_EQ(p["tokenizer_hash"], text::Tokenizer::load(dir_ / "base")->hash());
  EXPECT_THAT(p["command"].get<std::string>(), HasSubstr("slmi merge --model adapter"));
  EXPECT_EQ(read_text(dir_ / "merged/tokenizer.json"), tiny_tokenizer_json());
  const Json config = read_json_file((dir_ / "merged/tokenizer_config.json").string());
  EXPECT_THAT(config["chat_template"].get<std::string>(), HasSubstr("<|im_start|>"));
}

TEST_F(Merge, OntoDequantTakesTheProjectionsThroughNf4) {
  ASSERT_NO_FATAL_FAILURE(merge("--base base --dtype f32 --onto dequant"));
  EXPECT_EQ(provenance()["merge_base"], "nf4");
  const auto base = formats::Checkpoint::open(dir_ / "base");
  const auto adapter = formats::PeftAdapter::open(dir_ / "adapter");
  for (const auto& name : base->names()) {
    auto values = values_of(*base, name);
    if (name.ends_with("_proj.weight")) {
      const auto shape = base->tensor(name).shape;
      quant::nf4_dequantize(quant::nf4_quantize(values, shape[0], shape[1]), values);
    }
    std::vector<double> want(values.begin(), values.end());
    add_update(adapter, name, want);
    const auto got = values_of(*merged_, name);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << name << " element " << i;
  }
}

/// The adapter makes up for what NF4 changed: on other values of the base it would be off.
class TrainedOnNf4 : public Merge {
 protected:
  void SetUp() override {
    Merge::SetUp();
    write_text(dir_ / "rows.jsonl", R"({"text": "on", "answer": "{\"in\": 1}"}
{"text": "two in one", "answer": "{\"in\": 2}"}
)");
  }
  /// A run on `base`; its adapter is what the checks below merge.
  void train(const std::string& base, const std::string& format) {
    fs::remove_all(dir_ / "adapter");
    const Outcome got =
        run("slmi train --data rows.jsonl --epochs 1 --batch-size 2 --lr 0.05 --compute f32 --out run --base " + base +
                " --base-format " + format,
            dir_.path());
    ASSERT_EQ(got.code, 0) << got.err;
    fs::copy(dir_ / "run/adapter", dir_ / "adapter");
  }
  double log_probability(const std::string& model) { return answer(model)["log_probability"].get<double>(); }
};

TEST_F(TrainedOnNf4, ItsBaseHasTheseValuesWhereverItIsUsed) {
  write_tiny_gguf(dir_ / "tiny.gguf");
  // Of a third of the projections too: the others were in NF4 as well, and are not copied from the base.
  for (const auto& [base, flags] : {std::pair<std::string, std::string>{"base", ""},
                                    {"tiny.gguf", ""},
                                    {"base", " --targets q_proj --targets v_proj"}}) {
    ASSERT_NO_FATAL_FAILURE(train(base, "nf4" + flags));
    EXPECT_EQ(read_json_file((dir_ / "adapter/slmi.json").string())["trained_on"], "nf4");
    const double trained = log_probability("adapter --base-format nf4"),
                 other = log_probability("adapter --base-format stored");
    ASSERT_GT(std::abs(trained - other), 1e-3) << base;
    EXPECT_EQ(log_probability("adapter"), trained) << base;
    ASSERT_NO_FATAL_FAILURE(merge("--dtype f32"));
    EXPECT_EQ(provenance()["merge_base"], "nf4");
    EXPECT_NEAR(log_probability("merged"), trained, 1e-4) << base;
    const Outcome exported =
        run("slmi quantize --gguf --type F32 --rows 0 --model adapter --out made.gguf", dir_.path());
    ASSERT_EQ(exported.code, 0) << exported.err;
    EXPECT_NEAR(log_probability("made.gguf"), trained, 1e-4) << base;
    fs::remove_all(dir_ / "merged");
    fs::remove_all(dir_ / "run");
    fs::remove(dir_ / "made.gguf");
  }
}

TEST_F(TrainedOnNf4, OthersKeepTheirBase) {
  ASSERT_NO_FATAL_FAILURE(train("base", "stored"));
  EXPECT_EQ(read_json_file((dir_ / "adapter/slmi.json").string())["trained_on"], "");
  EXPECT_EQ(log_probability("adapter"), log_probability("adapter --base-format stored"));
  ASSERT_NO_FATAL_FAILURE(merge(""));
  EXPECT_EQ(provenance()["merge_base"], "w16");
}

TEST_F(Merge, AQuantizedBaseGivesItsDequantizedWeightsAndItsTokenizer) {
  write_tiny_gguf(dir_ / "tiny.gguf");
  ASSERT_NO_FATAL_FAILURE(merge("--base tiny.gguf --dtype f32"));
  EXPECT_EQ(provenance()["merge_base"], "dequant");
  const auto base = formats::Checkpoint::open(dir_ / "tiny.gguf");
  for (const auto& name : base->names()) {
    const auto want = wanted(*base, name);
    const auto got = values_of(*merged_, name);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << name << " element " << i;
  }
  EXPECT_EQ(text::Tokenizer::load(dir_ / "merged")->hash(), text::Tokenizer::load(dir_ / "tiny.gguf")->hash());
  EXPECT_EQ(answer("adapter --base tiny.gguf")["answer"], answer("merged")["answer"]);
}

TEST_F(Merge, SixteenBitWeightsThatAQuantizedBaseHasNotAreRefused) {
  write_tiny_gguf(dir_ / "tiny.gguf");
  const Outcome got = run("slmi merge --model adapter --base tiny.gguf --out merged --onto w16", dir_.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("tiny.gguf is quantized"));
  EXPECT_FALSE(fs::exists(dir_ / "merged"));
}

TEST_F(Merge, AMergedModelIsMergedAgainWithItsLineage) {
  ASSERT_NO_FATAL_FAILURE(merge("--base base"));
  const Outcome got = run("slmi merge --model adapter --base merged --out twice --max-shard-gb 0.00001", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_TRUE(fs::exists(dir_ / "twice/model.safetensors.index.json"));
  const Json first = provenance()["base"]["lineage"];
  const Json second = read_json_file((dir_ / "twice/slmi.json").string())["base"]["lineage"];
  ASSERT_EQ(second.size(), 3u);
  EXPECT_EQ(second[0], first[0]);
  EXPECT_EQ(second[1], first[1]);
  EXPECT_EQ(run("slmi inspect twice", dir_.path()).code, 0);
}

TEST_F(Merge, WhatIsNotOursIsNotOverwritten) {
  write_text(dir_ / "mine/notes.txt", "keep me");
  const Outcome got = run("slmi merge --model adapter --base base --out mine", dir_.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("mine"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "mine"), {}), 1);
  const std::string before = read_text(dir_ / "base/model.safetensors");
  EXPECT_EQ(run("slmi merge --model adapter --base base --out base", dir_.path()).code, 2);
  EXPECT_EQ(read_text(dir_ / "base/model.safetensors"), before);
}

TEST_F(Merge, ASumThatF16CannotHoldIsANumericError) {
  // One weight of the first matrix beyond f16's range.
  std::string bytes = read_text(dir_ / "base/model.safetensors");
  const float large = 1e6F;
  bytes.replace(bytes.size() - 4096, 4, std::string(reinterpret_cast<const char*>(&large), 4));
  write_text(dir_ / "base/model.safetensors", bytes);
  const Outcome got = run("slmi merge --model adapter --base base --out merged --dtype f16", dir_.path());
  EXPECT_EQ(got.code, 5) << got.err;
  EXPECT_THAT(got.err, HasSubstr("proj.weight' is not finite"));
  EXPECT_THAT(got.err, HasSubstr("--dtype bf16"));
  EXPECT_FALSE(fs::exists(dir_ / "merged/config.json"));
}

TEST_F(Merge, AFullDiskLeavesTheOldModel) {
  ASSERT_NO_FATAL_FAILURE(merge("--base base --dtype f32"));
  const std::string weights = read_text(dir_ / "merged/model.safetensors"),
                    config = read_text(dir_ / "merged/config.json");
  // POSIX counts blocks of 512: less than the weights need.
  const Outcome got = run(fmt::format("ulimit -f {} && trap '' XFSZ && slmi merge --model adapter --base base --dtype "
                                      "f32 --out merged",
                                      (weights.size() - 1) / 512),
                          dir_.path());
  EXPECT_EQ(got.code, 8) << got.err;
  EXPECT_THAT(got.err, HasSubstr("model.safetensors: cannot write"));
  EXPECT_EQ(read_text(dir_ / "merged/model.safetensors"), weights);
  EXPECT_EQ(read_text(dir_ / "merged/config.json"), config);
  EXPECT_FALSE(fs::exists(dir_ / "merged/unfinished"));
}

TEST_F(Merge, AModelWithoutAnAdapterIsAUsageError) {
  const Outcome got = run("slmi merge --model base --out merged", dir_.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("no adapter"));
}

}  // namespace
}  // namespace slmi::cli::testing
