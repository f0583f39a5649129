// What slmi quantize does when something is wrong: each form refuses what it cannot do, and a disk that is full or a
// process that dies leaves what was there.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <ostream>
#include <span>

#include "slmi/base/atomic_file.h"

#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kOutput = 8, kNumeric = 5, kInput = 3, kUsage = 2;  // exit codes
constexpr int kDied = 128 + 25;                                   // of SIGXFSZ

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
      {"--nf4", "--max-damp 0.5", "--max-damp belongs to --gguf or --gptq, not to --nf4"},
      {"--nf4", "--calibration-tokens 256", "--calibration-tokens belongs to --gguf or --gptq, not to --nf4"},
      {"--gguf", "--rounding nearest --drift-alpha 0.1", "--drift-alpha have no meaning with --rounding nearest"},
      {"--gptq", "--rounding nearest", "--rounding belongs to --gguf, not to --gptq"},
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
  const Outcome both = run("slmi quantize --nf4 --damp 0.1 --type F16 --model base --out m.gguf", dir_.path());
  EXPECT_THAT(both.err, HasSubstr("--damp belongs to --gguf or --gptq"));
  EXPECT_THAT(both.err, HasSubstr("--type belongs to --gguf, not to --nf4"));
}

TEST_F(QuantizeFailure, CalibrationThatNoTypeUsesIsRefused) {
  const std::string command = "slmi quantize --gguf --type Q8_0 --calibration rows.jsonl --model model --out m.gguf ";
  const Outcome got = run(command, dir_.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("--calibration: --type Q8_0 stores every weight alone"));
  EXPECT_FALSE(fs::exists(dir_ / "m.gguf"));
  const Outcome mixed = run(command + "--tensor-type ffn_up=Q4_0", dir_.path());
  EXPECT_EQ(mixed.code, 0) << mixed.err;
  EXPECT_THAT(mixed.out, HasSubstr("calibrating on 20 rows"));
  const Outcome without = run("slmi quantize --gguf --type Q4_0 --model model --out m.gguf", dir_.path());
  EXPECT_EQ(without.code, 0) << without.err;
  EXPECT_THAT(without.out, HasSubstr("not calibrated: weights are rounded to their nearest value"));
}

TEST_F(QuantizeFailure, UnknownTypesAreNamed) {
  const auto refused = [&](const std::string& type, const std::vector<std::string>& says) {
    const Outcome got = run("slmi quantize --gguf --model model --out m.gguf " + type, dir_.path());
    EXPECT_EQ(got.code, kUsage) << type;
    for (const auto& part : says) EXPECT_THAT(got.err, HasSubstr(part)) << type;
  };
  refused("--type IQ4_XS", {"GGUF file type 'IQ4_XS': no such type", "there are F32, F16"});
  refused("--type NF4", {"GGUF file type 'NF4': no such type"});
  refused("--tensor-type ffn=Q9_0", {"Q9_0"});
  refused("--tensor-type ffn=NF4", {"tensor type 'ffn=NF4': GGUF files have no NF4"});
  refused("--tensor-type ffn", {"tensor type 'ffn': expected PATTERN=TYPE"});
  refused("--tensor-type '(=Q8_0'", {"the pattern is no regular expression"});
  EXPECT_FALSE(fs::exists(dir_ / "m.gguf"));
}

TEST_F(QuantizeFailure, CalibrationWithoutRowsIsNamed) {
  write_text(dir_ / "empty.jsonl", "");
  write_text(dir_ / "blank.jsonl", "\n  \n");
  for (const char* form : {"--gptq", "--gguf"}) {
    for (const char* file : {"empty.jsonl", "blank.jsonl", "absent.jsonl"}) {
      const Outcome got =
          run(fmt::format("slmi quantize {} --model model --out m.gguf --calibration {}", form, file), dir_.path());
      EXPECT_EQ(got.code, kInput) << form << " " << file << "\n" << got.err;
      EXPECT_THAT(got.err, HasSubstr(file)) << form;
      EXPECT_FALSE(fs::exists(dir_ / "m.gguf")) << form << " " << file;
    }
  }
}

/// Puts a number into a tensor of a directory whose weights are f32.
void set_value(const fs::path& directory, const std::string& name, size_t index, float value) {
  const fs::path path = directory / "model.safetensors";
  const auto file = formats::SafetensorsFile::open(path);
  std::vector<formats::OutputTensor> tensors;
  std::vector<std::byte> changed;
  for (const auto& [tensor, t] : file.tensors()) {
    std::span<const std::byte> bytes = t.bytes;
    if (tensor == name) {
      changed.assign(bytes.begin(), bytes.end());
      std::memcpy(changed.data() + index * sizeof(float), &value, sizeof(float));
      bytes = changed;
    }
    tensors.push_back({tensor, t.dtype, t.shape, bytes});
  }
  ASSERT_FALSE(changed.empty()) << name;
  formats::write_safetensors(path, tensors);
}

TEST_F(QuantizeFailure, WeightsAndInputsThatAreNoNumbersNameTheirPlace) {
  fs::copy(dir_ / "model", dir_ / "loud");
  set_value(dir_ / "model", "model.layers.1.self_attn.v_proj.weight", 5, std::numeric_limits<float>::quiet_NaN());
  set_value(dir_ / "loud", "model.layers.1.input_layernorm.weight", 3, std::numeric_limits<float>::infinity());
  const auto refused = [&](const std::string& arguments, const std::vector<std::string>& says) {
    const Outcome got = run("slmi quantize --threads 1 --compute f32 " + arguments, dir_.path());
    EXPECT_EQ(got.code, kNumeric) << arguments << "\n" << got.err;
    for (const auto& part : says) EXPECT_THAT(got.err, HasSubstr(part)) << arguments;
  };
  refused("--gguf --type Q8_0 --model model --out m.gguf", {"model.layers.1.self_attn.v_proj.weight", "not finite"});
  refused("--nf4 --model model --out n", {"model.layers.1.self_attn.v_proj.weight"});
  refused("--gptq --calibration rows.jsonl --model model --out q",
          {"layer 1, q_proj/k_proj/v_proj: its weights hold NaN"});
  refused("--gptq --calibration rows.jsonl --model loud --out q2",
          {"layer 1, q_proj/k_proj/v_proj: its calibration inputs hold NaN", "--compute"});
  const std::string gguf = "--gguf --type Q4_0 --calibration rows.jsonl --model loud --out m.gguf";
  refused(gguf, {"layer 1, q_proj/k_proj/v_proj: its calibration inputs hold NaN"});
  refused(gguf + " --rounding nearest", {"the inputs of model.layers.1."});
  for (const char* out : {"m.gguf", "n", "q/config.json", "q2/config.json"})
    EXPECT_FALSE(fs::exists(dir_ / out)) << out;
}

// ---- a full disk, and a process that dies in the middle of a file, in every form

/// What happens where a file would grow beyond a limit: the write fails, as on a full disk; or the process is ended by
/// the signal, at that byte.
enum class AtLimit { Fails, Dies };

struct Form {
  const char *name, *arguments, *out, *weights;
};

void PrintTo(const Form& form, std::ostream* out) {
  *out << form.name;
}

class QuantizeForm : public QuantizeFailure, public ::testing::WithParamInterface<Form> {
 protected:
  Outcome quantize(const std::string& before = "") {
    return run(fmt::format("{}slmi quantize --threads 1 --compute f32 {} --out {}", before, GetParam().arguments,
                           GetParam().out),
               dir_.path());
  }
  /// With files of less than `bytes`. POSIX counts them in blocks of 512.
  Outcome quantize_within(uint64_t bytes, AtLimit then) {
    return quantize(fmt::format("ulimit -c 0 && ulimit -f {} && {}", (bytes - 1) / 512,
                                then == AtLimit::Fails ? "trap '' XFSZ && " : ""));
  }
  /// Name and bytes of every file, but of jobs that go on.
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path())) {
      const std::string name = fs::relative(entry.path(), dir_.path());
      if (entry.is_regular_file() && name.find("/unfinished/") == std::string::npos)
        out[name] = read_text(entry.path());
    }
    return out;
  }
  /// Less than the weights, by more than the padding that a file may end with; more than all other files.
  uint64_t too_few_bytes() const { return fs::file_size(dir_ / GetParam().weights) - 512; }
  bool is_directory() const { return std::string(GetParam().out).find('.') == std::string::npos; }
  /// What no reader may take for a model.
  void expect_no_model(const std::string& name) {
    EXPECT_NE(run("slmi inspect " + name, dir_.path()).code, 0) << name;
    EXPECT_NE(run("slmi predict --model " + name + " on", dir_.path()).code, 0) << name;
  }
  void remove_out() {
    slmi::remove_tree(dir_ / GetParam().out);
    for (const char* beside : {"m.Modelfile", "m.report.json"}) fs::remove(dir_ / beside);
  }
  /// Files that the process died in; removed.
  std::vector<std::string> remove_leftovers() {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(dir_.path()))
      if (entry.path().filename().string().find(".tmp-") != std::string::npos) out.push_back(entry.path().filename());
    for (const auto& name : out) {
      expect_no_model(name);
      fs::remove(dir_ / name);
    }
    return out;
  }
};

TEST_P(QuantizeForm, AFullDiskLeavesWhatWasThere) {
  ASSERT_EQ(quantize().code, 0);
  const auto whole = files();
  const uint64_t bytes = too_few_bytes();
  const Outcome got = quantize_within(bytes, AtLimit::Fails);
  EXPECT_EQ(got.code, kOutput) << got.err;
  EXPECT_THAT(got.err, HasSubstr(fs::path(GetParam().weights).filename().string() + ": cannot write: File too large"));
  EXPECT_EQ(files(), whole);
  remove_out();
  const auto nothing = files();
  EXPECT_EQ(quantize_within(bytes, AtLimit::Fails).code, kOutput);
  EXPECT_EQ(files(), nothing);
  expect_no_model(GetParam().out);
  ASSERT_EQ(quantize().code, 0);
  EXPECT_EQ(files(), whole) << "the same command gives the same bytes";
}

TEST_P(QuantizeForm, AKillInTheMiddleOfAFileLeavesNothingThatLooksWhole) {
  ASSERT_EQ(quantize().code, 0);
  const auto whole = files();
  const uint64_t bytes = too_few_bytes();
  const Outcome got = quantize_within(bytes, AtLimit::Dies);
  ASSERT_EQ(got.code, kDied) << got.out << got.err;
  EXPECT_EQ(remove_leftovers().size(), is_directory() ? 0u : 1u);
  EXPECT_EQ(files(), whole) << "the old one stays";
  remove_out();
  ASSERT_EQ(quantize_within(bytes, AtLimit::Dies).code, kDied);
  remove_leftovers();
  expect_no_model(GetParam().out);
  if (is_directory()) {
    EXPECT_THAT(run(fmt::format("slmi predict --model {} on", GetParam().out), dir_.path()).err,
                HasSubstr(fmt::format("{}: a model that was not written to its end", GetParam().out)));
    EXPECT_TRUE(fs::exists(dir_ / GetParam().out / "unfinished/model"));
  }
  ASSERT_EQ(quantize().code, 0);
  EXPECT_EQ(files(), whole);
  EXPECT_FALSE(fs::exists(dir_ / GetParam().out / "unfinished"));
}

TEST_P(QuantizeForm, AKillWhileTheNewModelTakesItsPlaceIsMadeGood) {
  if (!is_directory()) GTEST_SKIP() << "a file takes its place in one step";
  ASSERT_EQ(quantize().code, 0);
  const auto whole = files();
  // As if it had died between two of the renames.
  const fs::path out = dir_ / GetParam().out, place = out / "unfinished/model";
  fs::create_directories(place);
  for (const char* name : {"config.json", "generation_config.json"}) fs::rename(out / name, place / name);
  expect_no_model(GetParam().out);
  ASSERT_EQ(quantize().code, 0);
  EXPECT_EQ(files(), whole);
  EXPECT_FALSE(fs::exists(out / "unfinished"));
}

INSTANTIATE_TEST_SUITE_P(
    Forms, QuantizeForm,
    ::testing::Values(Form{"Gguf", "--gguf --type Q8_0 --model model", "m.gguf", "m.gguf"},
                      Form{"Adapter", "--gguf --adapter-only --model adapter --base base", "lora.gguf", "lora.gguf"},
                      Form{"Nf4", "--nf4 --model model", "n", "n/model.safetensors"},
                      Form{"Gptq", "--gptq --model model --calibration rows.jsonl", "q", "q/model.safetensors"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(QuantizeFailure, AModelOfAnotherFormInTheSamePlaceKeepsNothingOfTheOld) {
  ASSERT_EQ(run("slmi quantize --gptq --model model --calibration rows.jsonl --out x", dir_.path()).code, 0);
  write_text(dir_ / "x/notes.txt", "mine");
  ASSERT_EQ(run("slmi quantize --nf4 --model model --out x", dir_.path()).code, 0);
  for (const char* gone : {"quantization.csv", "quantization.json", "quantize_config.json", "unfinished"})
    EXPECT_FALSE(fs::exists(dir_ / "x" / gone)) << gone;
  EXPECT_EQ(read_text(dir_ / "x/notes.txt"), "mine");
  const Outcome seen = run("slmi inspect x", dir_.path());
  EXPECT_EQ(seen.code, 0) << seen.out << seen.err;
  EXPECT_THAT(seen.out, HasSubstr("NF4"));
}

/// GPTQ's layers are files of their own: whichever it dies in, the same command goes on to the same bytes.
TEST_F(QuantizeFailure, GptqGoesOnFromTheLayerItDiedIn) {
  const auto gptq = [&](const std::string& before, const std::string& out) {
    return run(
        before + "slmi quantize --gptq --threads 1 --compute f32 --model model --calibration rows.jsonl --out " + out,
        dir_.path());
  };
  ASSERT_EQ(gptq("", "whole").code, 0);
  const auto within = [](uint64_t bytes) { return fmt::format("ulimit -c 0 && ulimit -f {} && ", (bytes - 1) / 512); };
  // Dies in the model file: both layers are there, and as large as each other.
  ASSERT_EQ(gptq(within(fs::file_size(dir_ / "whole/model.safetensors") - 512), "q").code, kDied);
  const fs::path layers = dir_ / "q/unfinished";
  const auto layer = [&](int i) { return layers / fmt::format("layer-{:05}.safetensors", i); };
  ASSERT_TRUE(fs::exists(layer(0)) && fs::exists(layer(1)));
  const std::string first = read_text(layer(0)), second = read_text(layer(1));
  const auto expect_whole = [&](const char* when) {
    ASSERT_EQ(gptq("", "q").code, 0) << when;
    for (const char* file : {"model.safetensors", "quantization.csv", "config.json"})
      EXPECT_EQ(read_text(dir_ / "q" / file), read_text(dir_ / "whole" / file)) << file << ", " << when;
    EXPECT_FALSE(fs::exists(layers)) << when;
  };
  const std::string job = read_text(layers / "job.json");
  expect_whole("died in the model");

  // Dies in the first layer.
  slmi::remove_tree(dir_ / "q");
  ASSERT_EQ(gptq(within(first.size()), "q").code, kDied);
  EXPECT_FALSE(fs::exists(layer(0)));
  EXPECT_EQ(read_text(layers / "job.json"), job);
  EXPECT_EQ(run("slmi inspect q", dir_.path()).code, kInput);
  expect_whole("died in the first layer");

  // Dies in the second: the first is taken up, the half of the second is not.
  slmi::remove_tree(dir_ / "q");
  write_text(layers / "job.json", job);
  write_text(layer(0), first);
  write_text(layer(1).string() + ".tmp-1", second.substr(0, second.size() / 2));
  expect_whole("died in the second layer");
}

}  // namespace
}  // namespace slmi::cli::testing
