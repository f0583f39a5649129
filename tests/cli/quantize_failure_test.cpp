// What slmi quantize does when something is wrong: each form refuses what it cannot do, and a disk that is full or a
// process that dies leaves what was there.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

class QuantizeFailure : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_base(dir_ / "base");
    fs::copy(golden_model("tiny-tied-trained"), dir_ / "adapter");
    write_gptq_base(dir_ / "model");
    write_text(dir_ / "rows.jsonl", gptq_rows());
  }
  TemporaryDirectory dir_;
};

TEST_F(QuantizeFailure, AFlagOfAnotherFormIsRefusedAndNothingIsWritten) {
  struct Mistake {
    const char *form, *flag, *says;
  };
  const Mistake mistakes[] = {
      {"--gptq", "--type Q8_0", "--type belongs to --gguf, not to --gptq; leave it out, or say --gguf instead"},
      {"--gptq", "--tensor-type ffn=Q8_0", "--tensor-type belongs to --gguf, not to --gptq"},
      {"--gptq", "--name shop", "--name belongs to --gguf, not to --gptq"},
      {"--gptq", "--no-double-quant", "--no-double-quant belongs to --nf4, not to --gptq"},
      {"--gptq", "--act-order --group-aware", "--group-aware has no meaning with --act-order"},
      {"--nf4", "--type F16", "--type belongs to --gguf, not to --nf4"},
      {"--nf4", "--calibration rows.jsonl", "--calibration belongs to --gguf or --gptq, not to --nf4"},
      {"--nf4", "--group-size 64", "--group-size belongs to --gptq, not to --nf4"},
      {"--nf4", "--adapter-only", "--adapter-only belongs to --gguf, not to --nf4"},
      {"--gguf", "--group-size 128", "--group-size belongs to --gptq, not to --gguf"},
      {"--gguf", "--no-act-order", "--no-act-order belongs to --gptq, not to --gguf"},
      {"--gguf", "--max-damp 0.5", "--max-damp belongs to --gptq, not to --gguf"},
      {"--gguf", "--calibration-tokens 256", "--calibration-tokens belongs to --gptq, not to --gguf"},
      {"--gguf", "--max-shard-gb 1", "--max-shard-gb belongs to --gptq or --nf4, not to --gguf"},
      {"--gguf --adapter-only", "--type F16", "--type has no meaning with --adapter-only"},
      {"--gguf --adapter-only", "--val rows.jsonl", "--val has no meaning with --adapter-only"},
      {"--gguf --adapter-only", "--calibration rows.jsonl", "--calibration has no meaning with --adapter-only"},
  };
  for (const auto& [form, flag, says] : mistakes) {
    const Outcome got =
        run(fmt::format("slmi quantize {} {} --model adapter --base base --out m.gguf", form, flag), dir_.path());
    EXPECT_EQ(got.code, 2) << form << " " << flag;
    EXPECT_THAT(got.err, HasSubstr(says)) << form << " " << flag;
    EXPECT_FALSE(fs::exists(dir_ / "m.gguf"));
  }
  const Outcome both = run("slmi quantize --gguf --damp 0.1 --double-quant --model base --out m.gguf", dir_.path());
  EXPECT_THAT(both.err, HasSubstr("--damp belongs to --gptq"));
  EXPECT_THAT(both.err, HasSubstr("--double-quant belongs to --nf4"));
}

TEST_F(QuantizeFailure, CalibrationThatNoTypeUsesIsRefused) {
  const std::string command = "slmi quantize --gguf --type Q8_0 --calibration rows.jsonl --model model --out m.gguf ";
  const Outcome got = run(command, dir_.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("--calibration: --type Q8_0 stores every weight alone"));
  EXPECT_FALSE(fs::exists(dir_ / "m.gguf"));
  const Outcome mixed = run(command + "--tensor-type ffn_up=Q4_0", dir_.path());
  EXPECT_EQ(mixed.code, 0) << mixed.err;
  EXPECT_THAT(mixed.out, HasSubstr("calibrated on 20 rows"));
  const Outcome without = run("slmi quantize --gguf --type Q4_0 --model model --out m.gguf", dir_.path());
  EXPECT_EQ(without.code, 0) << without.err;
  EXPECT_THAT(without.out, HasSubstr("not calibrated: errors of all inputs count the same"));
}

}  // namespace
}  // namespace slmi::cli::testing
