// The command line as a whole: version, help, mistakes, doctor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

const std::vector<std::string> kCommands = {"train",    "eval",    "predict", "merge",
                                            "quantize", "inspect", "doctor",  "bench"};

TEST(Program, VersionNamesCommitLibtorchCudaAndSimd) {
  const TemporaryDirectory dir;
  const Outcome got = run("slmi --version", dir.path(), {{"SLMI_FORCE_SIMD", "scalar"}});
  EXPECT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.out, MatchesRegex("slmi [0-9]+\\.[0-9]+\\.[0-9]+ \\([^)]+\\)\n"
                                    "compiler: [^\n]+\n"
                                    "libtorch: [0-9]+\\.[0-9]+[^\n]*\n"
                                    "CUDA: [^\n]+\n"
                                    "ranks: (MPI on CPUs|NCCL on GPUs|MPI on CPUs, NCCL on GPUs|one process only)\n"
                                    "SIMD: scalar\n"));
}

TEST(Program, HelpListsEveryCommand) {
  const TemporaryDirectory dir;
  const Outcome got = run("slmi --help", dir.path());
  EXPECT_EQ(got.code, 0) << got.err;
  for (const auto& command : kCommands) EXPECT_THAT(got.out, HasSubstr("\n  " + command + " "));
}

TEST(Program, EveryHelpEndsWithAnExampleThatParses) {
  const TemporaryDirectory dir;
  for (const auto& command : kCommands) {
    const Outcome help = run("slmi " + command + " --help", dir.path());
    ASSERT_EQ(help.code, 0) << help.err;
    const size_t at = help.out.rfind("Example:\n");
    ASSERT_NE(at, std::string::npos) << help.out;
    std::string example = help.out.substr(at + 9);
    example.erase(0, example.find_first_not_of(' '));
    example.erase(example.find_last_not_of("\n ") + 1);
    ASSERT_TRUE(example.starts_with("slmi " + command)) << example;
    EXPECT_EQ(example.find('\n'), std::string::npos) << "more than a line: " << example;
    // Parsed, it gets as far as the files that this directory does not have (doctor and bench need none): never to a
    // usage error.
    const Outcome got = run(example, dir.path());
    EXPECT_EQ(got.code, command == "doctor" || command == "bench" ? 0 : 3) << example << "\n" << got.err;
  }
}

TEST(Program, AnUnknownFlagIsAUsageErrorWithASuggestion) {
  const TemporaryDirectory dir;
  const Outcome got = run("slmi train --learning-rate 1e-4", dir.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("--learning-rate: no such option; did you mean --lr?"));
  const Outcome merge = run("slmi merge --output-dir x", dir.path());
  EXPECT_EQ(merge.code, 2);
  EXPECT_THAT(merge.err, HasSubstr("did you mean --out?"));
}

TEST(Program, TrainingInF16IsForGpus) {
  const TemporaryDirectory dir;
  const Outcome cpu = run("slmi train --base b --data d --out o --device cpu --compute f16", dir.path());
  EXPECT_EQ(cpu.code, 2);
  EXPECT_THAT(cpu.err, HasSubstr("--compute f16: CPUs are slow in it; use --compute bf16 or f32"));
  const Outcome scale = run("slmi train --base b --data d --out o --initial-loss-scale 5000", dir.path());
  EXPECT_EQ(scale.code, 2);
  EXPECT_THAT(scale.err, HasSubstr("take 4096"));
}

TEST(Program, AnUnknownCommandIsAUsageErrorWithASuggestion) {
  const TemporaryDirectory dir;
  const Outcome got = run("slmi inspekt x", dir.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("did you mean inspect?"));
}

std::map<std::string, Json> findings(const std::string& text) {
  std::map<std::string, Json> out;
  const Json report = parse_json(text, "doctor");
  for (const auto& f : report["findings"]) out[f["subject"]] = f;
  return out;
}

TEST(Doctor, SaysWhatThisMachineHas) {
  const TemporaryDirectory dir;
  const Outcome got = run("slmi doctor --json", dir.path(), {{"SLMI_SMOLLM2_GGUF", ""}});
  ASSERT_EQ(got.code, 0) << got.err;
  const auto found = findings(got.out);
  for (const char* subject : {"CPU", "SIMD", "memory", "libtorch", "speed", "GPU", "base model", "disk"}) {
    ASSERT_TRUE(found.contains(subject)) << subject << "\n" << got.out;
    EXPECT_NE(found.at(subject)["state"], "BROKEN") << found.at(subject);
    EXPECT_NE(found.at(subject)["text"], "");
  }
  EXPECT_THAT(found.at("libtorch")["text"].get<std::string>(), HasSubstr("libtorch_cpu.so"));
  EXPECT_THAT(found.at("speed")["text"].get<std::string>(), MatchesRegex(".*[1-9][0-9]* GFLOP/s in f32.*in bf16.*"));
  EXPECT_EQ(found.at("base model")["state"], "note");
  EXPECT_THAT(found.at("base model")["remedy"].get<std::string>(), HasSubstr("tools/quickstart"));
}

TEST(Doctor, ABrokenBaseModelIsAFinding) {
  const TemporaryDirectory dir;
  write_text(dir / "cut.gguf", "GGUF\x03");
  const Outcome got = run("slmi doctor --no-probe", dir.path(), {{"SLMI_SMOLLM2_GGUF", "cut.gguf"}});
  EXPECT_EQ(got.code, 6);
  EXPECT_THAT(got.out, HasSubstr("BROKEN  base model"));
  EXPECT_THAT(got.out, HasSubstr("cut.gguf"));
  EXPECT_THAT(got.err, HasSubstr("broken: base model"));
}

TEST(Doctor, AForcedSimdSetIsNoted) {
  const TemporaryDirectory dir;
  const Outcome full = run("slmi doctor --no-probe --json", dir.path());
  if (findings(full.out).at("SIMD")["text"] == "scalar")
    GTEST_SKIP() << "this CPU has no vector instructions to hold back";
  const Outcome got = run("slmi doctor --no-probe --json", dir.path(), {{"SLMI_FORCE_SIMD", "scalar"}});
  const Json simd = findings(got.out).at("SIMD");
  EXPECT_EQ(simd["state"], "note") << got.out;
  EXPECT_THAT(simd["remedy"].get<std::string>(), HasSubstr("SLMI_FORCE_SIMD"));
}

TEST(Bench, CeilingsAreMeasuredShownAndWritten) {
  const TemporaryDirectory dir;
  const Outcome got = run("slmi bench ceilings --device cpu --threads 1 --out c.json", dir.path());
  ASSERT_EQ(got.code, 0) << got.err;
  const Json found = parse_json(read_text(dir / "c.json"), "c.json");
  EXPECT_EQ(found["device"], "cpu");
  EXPECT_EQ(found["threads"], 1);
  EXPECT_EQ(found["predicted"], false);
  EXPECT_EQ(found["read_gb_per_s"], found["read_gb_per_s_one_thread"]);
  // From a board with one slow memory chip to a server with many: anything else is a wrong unit.
  EXPECT_GT(found["read_gb_per_s"].get<double>(), 0.5);
  EXPECT_LT(found["read_gb_per_s"].get<double>(), 1000);
  EXPECT_GT(found["f32_gflops"].get<double>(), 0.5);
  EXPECT_LT(found["f32_gflops"].get<double>(), 2000);
  EXPECT_GT(found["bf16_gflops"].get<double>(), 0);
  EXPECT_TRUE(found["f16_gflops"].is_null()) << "not measured on a CPU";
  EXPECT_THAT(got.out, MatchesRegex("[^\n]+, 1 thread\n(.|\n)*memory, reading, 1 thread +[0-9.]+ GB/s\n"
                                    "matrix products, f32 +[0-9.]+ GFLOP/s\n"
                                    "matrix products, bf16 +[0-9.]+ GFLOP/s\n"));
}

TEST(Bench, TrainingStepsAreCountedAsAsked) {
  const TemporaryDirectory dir;
  write_tiny_base(dir / "base");
  const Outcome got =
      run("slmi bench train --base base --base-format f32 --device cpu --threads 1 --rows 3 --row-tokens 40 "
          "--shortest-tokens "
          "40 --shared-tokens 20 --target-tokens 5 --steps 2 --warmup-steps 1 --rank 2 --out t.json",
          dir.path());
  ASSERT_EQ(got.code, 0) << got.err;
  const Json found = parse_json(read_text(dir / "t.json"), "t.json");
  EXPECT_EQ(found["tokens_a_step"], 120.0);
  EXPECT_EQ(found["computed_tokens_a_step"], 80.0) << "the shared tokens once";
  EXPECT_EQ(found["targets_a_step"], 15.0);
  ASSERT_EQ(found["step_ms_all"].size(), 2u);
  const double least = found["step_ms_all"][0], most = found["step_ms_all"][1], median = found["step_ms"];
  EXPECT_NEAR(median, (least + most) / 2, 1e-9 * median);
  EXPECT_GT(found["tokens_per_s"].get<double>(), 0);
  EXPECT_NEAR(found["rows_per_s"].get<double>() * 40, found["tokens_per_s"].get<double>(), 1e-6);
  // 2 layers of 32 wide projections and a head of 96 x 32.
  EXPECT_GT(found["product_tflop_a_step"].get<double>(), 0);
  EXPECT_THAT(got.out, HasSubstr("tokens computed a step"));
}

TEST(Bench, TrainsOnTheBlocksOfAGguf) {
  const TemporaryDirectory dir;
  write_tiny_gguf(dir / "q8.gguf");
  const Outcome got =
      run("slmi bench train --base q8.gguf --base-format stored --threads 1 --rows 3 --row-tokens 40 --steps 2 "
          "--warmup-steps 1 --rank 2",
          dir.path());
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.out, HasSubstr("tokens computed a step"));
  for (const char* format : {"auto", "stored"}) {
    const Outcome answer =
        run(std::string("slmi predict --max-new-tokens 4 --model q8.gguf --base-format ") + format + " on", dir.path());
    EXPECT_EQ(answer.code, 0) << format << answer.err;
  }
}

TEST(Bench, TrainingNeedsRoomForWhatItIsToldToHave) {
  const TemporaryDirectory dir;
  const Outcome got = run("slmi bench train --base b --row-tokens 16 --shared-tokens 12 --target-tokens 4", dir.path());
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("no room"));
  const Outcome order = run("slmi bench train --base b --row-tokens 16 --shortest-tokens 20", dir.path());
  EXPECT_THAT(order.err, HasSubstr("shortest_tokens"));
  const Outcome kernels = run("slmi bench train --base b --device cpu --kernels k.csv", dir.path());
  EXPECT_EQ(kernels.code, 2) << kernels.err;
  EXPECT_THAT(kernels.err, HasSubstr("--kernels"));
}

TEST(Bench, KernelsNeedAGpu) {
  const TemporaryDirectory dir;
  const std::map<std::string, std::string> no_gpu = {{"CUDA_VISIBLE_DEVICES", ""}};
  const Outcome got = run("slmi bench kernels --out k.json", dir.path(), no_gpu);
  EXPECT_EQ(got.code, 4) << got.err;
  EXPECT_THAT(got.err, HasSubstr("slmi bench kernels measures the kernels of a GPU"));
  EXPECT_THAT(got.err, HasSubstr("slmi doctor"));
  EXPECT_FALSE(fs::exists(dir / "k.json"));
}

TEST(Bench, MistakesNameTheCommandTheyAreIn) {
  const TemporaryDirectory dir;
  const Outcome flag = run("slmi bench ceilings --thread 2", dir.path());
  EXPECT_EQ(flag.code, 2);
  EXPECT_THAT(flag.err, HasSubstr("did you mean --threads? See slmi bench ceilings --help"));
  const Outcome command = run("slmi bench ceiling", dir.path());
  EXPECT_EQ(command.code, 2);
  EXPECT_THAT(command.err, HasSubstr("did you mean ceilings?"));
  const Outcome none = run("slmi bench", dir.path());
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("See slmi bench --help"));
  const Outcome unwritable = run("slmi bench ceilings --device cpu --out absent/c.json", dir.path());
  EXPECT_EQ(unwritable.code, 8) << unwritable.err;
}

}  // namespace
}  // namespace slmi::cli::testing
