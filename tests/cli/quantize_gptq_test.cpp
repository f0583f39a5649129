// slmi quantize --gptq as a user runs it: a directory that works, and errors that say what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "slmi/formats/gguf.h"
#include "slmi/quant/nf4.h"
#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

class QuantizeGptq : public ::testing::Test {
 protected:
  void SetUp() override {
    write_gptq_base(dir_ / "model");
    write_text(dir_ / "rows.jsonl", gptq_rows());
  }
  Outcome quantize(const std::string& more) {
    return run("slmi quantize --gptq --threads 1 --compute f32 --model model --calibration rows.jsonl " + more,
               dir_.path());
  }
  TemporaryDirectory dir_;
};

TEST_F(QuantizeGptq, MakesAModelThatAnswersAndThatInspectKnows) {
  const Outcome got = quantize("--out q");
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.err, HasSubstr("calibrating on 20 rows"));
  EXPECT_THAT(got.err, HasSubstr("groups of 32"));
  EXPECT_THAT(got.out, HasSubstr("quantized 14 matrices"));
  EXPECT_THAT(got.out, HasSubstr("q/quantization.csv"));
  EXPECT_THAT(got.out, HasSubstr("read again: tokenizer, template, stop ids and every matrix are there"));
  EXPECT_THAT(got.out, HasSubstr("drift: not measured; name rows with --val"));
  for (const char* file : {"config.json", "quantize_config.json", "tokenizer.json", "tokenizer_config.json",
                           "slmi.json", "model.safetensors", "quantization.json"})
    EXPECT_TRUE(fs::exists(dir_ / "q" / file)) << file;
  const Json config = read_json_file((dir_ / "q/config.json").string());
  EXPECT_EQ(config.at("torch_dtype"), "float16");
  EXPECT_EQ(config.at("quantization_config"), read_json_file((dir_ / "q/quantize_config.json").string()));
  EXPECT_EQ(config.at("quantization_config").at("meta").at("act_group_aware"), true);
  const Json made = read_json_file((dir_ / "q/slmi.json").string());
  EXPECT_THAT(made.at("quantization").get<std::string>(), HasSubstr("gptq, 4 bits, groups of 32"));
  EXPECT_EQ(made.at("calibration_hash").get<std::string>().size(), 64u);

  const Outcome seen = run("slmi inspect q --values", dir_.path());
  EXPECT_EQ(seen.code, 0) << seen.out << seen.err;
  EXPECT_THAT(seen.out, HasSubstr("GPTQ"));
  EXPECT_THAT(seen.out, HasSubstr("group_size"));
  const Outcome answer = run("slmi predict --threads 1 --model q --max-new-tokens 4 'play a song'", dir_.path());
  EXPECT_EQ(answer.code, 0) << answer.err;
}

/// Blocks of a GGUF file are chosen by GPTQ too, unless the user would rather have them at once.
TEST_F(QuantizeGptq, GgufBlocksAreRoundedByGptqWhereThereAreRows) {
  const auto make = [&](const std::string& out, const std::string& more) {
    const Outcome got = run(fmt::format("slmi quantize --gguf --type Q4_0 --threads 1 --compute f32 --model model "
                                        "--calibration rows.jsonl --out {}.gguf {}",
                                        out, more),
                            dir_.path());
    EXPECT_EQ(got.code, 0) << got.err;
    return got;
  };
  const Outcome gptq = make("a", "");
  EXPECT_THAT(gptq.out, HasSubstr("calibrating on 20 rows"));
  EXPECT_THAT(gptq.out, HasSubstr("relative error of their outputs: mean"));
  EXPECT_THAT(gptq.out, HasSubstr("peak memory: "));
  const Json report = read_json_file((dir_ / "a.report.json").string());
  EXPECT_EQ(report.at("rounding"), "gptq");
  EXPECT_EQ(report.at("modules").size(), 14u);
  EXPECT_EQ(report.at("calibration_hash").get<std::string>().size(), 64u);
  make("again", "");
  EXPECT_EQ(read_text(dir_ / "again.gguf").size(), read_text(dir_ / "a.gguf").size());
  const Outcome nearest = make("b", "--rounding nearest");
  EXPECT_THAT(nearest.out, ::testing::Not(HasSubstr("relative error of their outputs")));
  EXPECT_EQ(read_json_file((dir_ / "b.report.json").string()).at("rounding"), "nearest");
  const formats::GgufFile a = formats::GgufFile::open(dir_ / "a.gguf"), b = formats::GgufFile::open(dir_ / "b.gguf");
  EXPECT_THAT(std::string(a.value("slmi.provenance").as_string()), HasSubstr("Q4_0; gptq, drift alpha 0.5"));
  int64_t other = 0;
  for (const auto& [name, tensor] : a.tensors()) {
    const auto& same = b.tensor(name);
    EXPECT_EQ(tensor.format, same.format) << name;
    other += std::ranges::equal(tensor.bytes, same.bytes) ? 0 : 1;
  }
  EXPECT_EQ(other, 14);
}

TEST_F(QuantizeGptq, SaysWhatItLostOnTheRowsThatBothAnswer) {
  for (const char* form : {"--gptq --calibration rows.jsonl", "--nf4"}) {
    const Outcome got = run(std::string("slmi quantize ") + form +
                                " --threads 1 --model model --out q --val rows.jsonl --rows 5 --no-answer-form",
                            dir_.path());
    ASSERT_EQ(got.code, 0) << got.err;
    EXPECT_THAT(got.out, HasSubstr("drift on 5 rows: exact match"));
    const Json report = read_json_file((dir_ / "q/report.json").string());
    EXPECT_EQ(report.at("drift").at("rows"), 5);
    EXPECT_EQ(report.at("drift_is_lower_bound"), false);
    const double before = report.at("drift").at("loss_before"), after = report.at("drift").at("loss_after");
    EXPECT_NE(before, after);
    EXPECT_NEAR(after / before, 1.0, 0.5);
  }
}

TEST_F(QuantizeGptq, GivesTheSameBytesAgain) {
  ASSERT_EQ(quantize("--out a --act-order").code, 0);
  ASSERT_EQ(quantize("--out b --act-order").code, 0);
  for (const char* file : {"model.safetensors", "config.json", "quantization.csv"})
    EXPECT_EQ(read_text(dir_ / "a" / file), read_text(dir_ / "b" / file)) << file;
  const Json config = read_json_file((dir_ / "a/quantize_config.json").string());
  EXPECT_EQ(config.at("desc_act"), true);
  EXPECT_EQ(config.at("meta").at("act_group_aware"), false);
}

void expect_usage(const Outcome& got, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(got.code, code) << got.out << got.err;
  for (const auto& part : parts) EXPECT_THAT(got.err, HasSubstr(part));
}

TEST_F(QuantizeGptq, MistakesAreNamed) {
  expect_usage(run("slmi quantize --gptq --model model --out q", dir_.path()), 2,
               {"no calibration rows", "--calibration FILE"});
  expect_usage(run("slmi quantize --model model --out q", dir_.path()), 2, {"--gptq"});
  expect_usage(quantize("--out q --group-size 48"), 2, {"group_size = 48; expected 32, 64, 128 or -1"});
  expect_usage(quantize("--out q --group-size 64"), 2, {"q_proj has rows of 32", "groups of 64"});
  expect_usage(quantize("--out q --damp 0.9"), 2, {"damp = 0.9 is above max_damp = 0.5"});
  expect_usage(quantize("--out model"), 2, {"it is the model that is read"});
  expect_usage(quantize("--out q --desc-act"), 2, {"did you mean --act-order?"});
  write_text(dir_ / "empty.jsonl", "");
  expect_usage(run("slmi quantize --gptq --model model --out q --calibration empty.jsonl", dir_.path()), 3,
               {"empty.jsonl"});
  write_tiny_base(dir_ / "odd");
  expect_usage(run("slmi quantize --gptq --model odd --out q --calibration rows.jsonl", dir_.path()), 2,
               {"gate_proj is [80, 32]: GPTQ needs multiples of 32"});
  EXPECT_FALSE(fs::exists(dir_ / "q"));
}

TEST_F(QuantizeGptq, Nf4MakesAModelOfTheValuesThatTrainingOnNf4Sees) {
  const Outcome got = run("slmi quantize --nf4 --model model --out n", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.out, HasSubstr("quantized 14 matrices to NF4"));
  const Json config = read_json_file((dir_ / "n/config.json").string());
  EXPECT_EQ(config.at("quantization_config").at("quant_method"), "bitsandbytes");
  const auto base = formats::Checkpoint::open(dir_ / "model"), made = formats::Checkpoint::open(dir_ / "n");
  EXPECT_EQ(made->fingerprint(), base->fingerprint());
  for (const auto& name : base->names()) {
    if (!name.ends_with("_proj.weight")) continue;
    const auto stored = base->tensor(name);
    const auto want = quant::nf4_quantize(formats::to_floats(stored), stored.shape[0], stored.shape[1]);
    const auto got_matrix = made->tensor(name);
    ASSERT_NE(got_matrix.nf4, nullptr) << name;
    EXPECT_EQ(got_matrix.nf4->codes, want.codes) << name;
    EXPECT_EQ(got_matrix.nf4->offset, want.offset) << name;
  }
  const Outcome seen = run("slmi inspect n --values", dir_.path());
  EXPECT_EQ(seen.code, 0) << seen.out << seen.err;
  EXPECT_THAT(seen.out, HasSubstr("NF4"));
  EXPECT_EQ(run("slmi predict --threads 1 --model n --max-new-tokens 4 'play a song'", dir_.path()).code, 0);
  EXPECT_EQ(run("slmi quantize --nf4 --no-double-quant --model model --out p", dir_.path()).code, 0);
  EXPECT_TRUE(
      formats::Checkpoint::open(dir_ / "p")->tensor("model.layers.0.mlp.up_proj.weight").nf4->absmax_codes.empty());
}

TEST_F(QuantizeGptq, AWrittenModelThatLacksAPieceIsRefused) {
  ASSERT_EQ(quantize("--out q").code, 0);
  Json config = read_json_file((dir_ / "q/config.json").string());
  config.erase("quantization_config");
  write_text(dir_ / "q/config.json", config.dump());
  fs::remove(dir_ / "q/quantize_config.json");
  expect_usage(run("slmi predict --model q 'play'", dir_.path()), 3, {"quantize_config.json", "quantization_config"});
}

}  // namespace
}  // namespace slmi::cli::testing
