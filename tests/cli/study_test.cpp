// slmi study from the command line: real quantizers, real workers, a tiny model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

class StudyCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_base(dir_ / "base");
    fs::copy(golden_model("tiny-tied-trained"), dir_ / "adapter");
    write_text(dir_ / "rows.jsonl",
               "{\"id\": \"a\", \"text\": \"on\", \"answer\": \"one\"}\n"
               "{\"id\": \"b\", \"text\": \"two in one\", \"answer\": \"two\"}\n");
  }
  Outcome study(const std::string& arguments) {
    return run("slmi study --data rows.jsonl --out out --batch-sizes 1,2 --max-new-tokens 4 " + arguments, dir_.path());
  }
  Json report() { return parse_json(read_text(dir_ / "out/study.json"), "study.json"); }

  TemporaryDirectory dir_;
};

TEST_F(StudyCommand, MakesAndMeasuresEveryFormat) {
  const Outcome got = study("--model base --formats f32,f16,bf16,nf4,Q8_0,Q4_0 --calibration rows.jsonl");
  ASSERT_EQ(got.code, 0) << got.err;
  const Json json = report();
  ASSERT_EQ(json["cells"].size(), 6U);
  std::map<std::string, int64_t> bytes;
  for (const auto& cell : json["cells"]) {
    EXPECT_EQ(cell["problem"], "") << cell["format"];
    bytes[cell["format"]] = cell["file_bytes"].get<int64_t>();
  }
  EXPECT_GT(bytes["f32"], bytes["bf16"]);
  EXPECT_GT(bytes["bf16"], bytes["nf4"]);
  EXPECT_THAT(got.out, HasSubstr("out/study.html"));
  EXPECT_EQ(json["ceilings"].size(), 1U);
  EXPECT_GT(json["ceilings"][0]["read_gb_per_s"].get<double>(), 0.0);
}

TEST_F(StudyCommand, AnAdapterIsMergedForEveryFormat) {
  const Outcome got = study("--model tuned=adapter --base base --formats f32,Q8_0");
  ASSERT_EQ(got.code, 0) << got.err;
  const Json written = report();
  for (const auto& cell : written["cells"]) EXPECT_EQ(cell["problem"], "") << cell["format"];
  EXPECT_TRUE(fs::exists(dir_ / "out/artefacts/tuned/f32/model.safetensors"));
  EXPECT_TRUE(fs::exists(dir_ / "out/artefacts/tuned/Q8_0.gguf"));
}

TEST_F(StudyCommand, AFormatThatTheModelCannotTakeSaysWhyAndTheRestRuns) {
  const Outcome got = study("--model base --formats f32,gptq");
  ASSERT_EQ(got.code, 0) << got.err;
  const Json json = report();
  EXPECT_EQ(json["cells"][0]["problem"], "");
  EXPECT_THAT(json["cells"][1]["problem"].get<std::string>(), HasSubstr("GPTQ needs multiples of 32"));
}

TEST_F(StudyCommand, PlanAndWrongNames) {
  const Outcome plan = study("--model base --formats f32,Q8_0 --dry-run");
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("2 cells on 2 rows"));
  EXPECT_FALSE(fs::exists(dir_ / "out"));
  const Outcome wrong = study("--model base --formats int8");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("format 'int8'"));
}

}  // namespace
}  // namespace slmi::cli::testing
