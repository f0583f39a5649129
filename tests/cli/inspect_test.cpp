// slmi inspect on what is sound and on what is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "slmi/text/tokenizer.h"
#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

/// The one element of `slmi inspect --json`'s array, and its exit code.
struct Report {
  int code;
  Json json;
  std::string err;
};
Report inspect(const std::string& arguments, const fs::path& directory) {
  const Outcome got = run("slmi inspect --json " + arguments, directory);
  const Json all = parse_json(got.out.empty() ? "[{}]" : got.out, "slmi inspect");
  return {got.code, all.at(0), got.err};
}

void expect_unsound(const std::string& arguments, const fs::path& directory, const std::vector<std::string>& parts) {
  const Outcome got = run("slmi inspect " + arguments, directory);
  EXPECT_EQ(got.code, 3) << arguments << "\n" << got.out;
  for (const auto& part : parts) EXPECT_THAT(got.err, HasSubstr(part)) << arguments;
  EXPECT_THAT(got.out, HasSubstr("NOT sound"));
}

class Inspect : public ::testing::Test {
 protected:
  void SetUp() override { write_tiny_base(dir_ / "base"); }
  /// A copy of the base's weights, changed.
  void write_changed_weights(const std::string& name, const std::function<void(std::string&)>& change) {
    write_tiny_base(dir_ / name);
    std::string bytes = read_text(dir_ / name / "model.safetensors");
    change(bytes);
    write_text(dir_ / name / "model.safetensors", bytes);
  }
  TemporaryDirectory dir_;
};

TEST_F(Inspect, HuggingFaceDirectory) {
  const Report got = inspect("base --tensors", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_EQ(got.json["kind"], "Hugging Face directory");
  EXPECT_TRUE(got.json["sound"].get<bool>());
  const Json& facts = got.json["facts"];
  EXPECT_EQ(facts["config"]["layers"], 2);
  EXPECT_EQ(facts["config"]["head"], "tied");
  EXPECT_EQ(facts["tokenizer"]["tokens"], 96);
  EXPECT_EQ(facts["tokenizer"]["hash"], text::Tokenizer::load(dir_ / "base")->hash());
  EXPECT_EQ(facts["template"]["name"], "chatml");
  EXPECT_EQ(facts["stop_ids"][0], 2);
  EXPECT_EQ(facts["values"], "all finite");
  ASSERT_EQ(facts["tensors"].size(), 1u);
  EXPECT_EQ(facts["tensors"][0]["format"], "F32");
  EXPECT_EQ(facts["tensors"][0]["tensors"], 20);
  EXPECT_EQ(got.json["tensors"].size(), 20u);
}

TEST_F(Inspect, GgufFile) {
  write_tiny_gguf(dir_ / "tiny.gguf");
  const Report got = inspect("tiny.gguf", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_EQ(got.json["kind"], "GGUF");
  const auto base = formats::Checkpoint::open(golden_model("tiny-tied"));
  EXPECT_EQ(got.json["facts"]["fingerprint"], base->fingerprint());
  std::map<std::string, int> counts;
  for (const auto& group : got.json["facts"]["tensors"]) counts[group["format"]] = group["tensors"];
  EXPECT_EQ(counts, (std::map<std::string, int>{{"F16", 2}, {"F32", 5}, {"Q8_0", 13}}));
}

TEST_F(Inspect, SafetensorsFileAdapterAndTokenizer) {
  EXPECT_EQ(inspect("base/model.safetensors", dir_.path()).json["kind"], "safetensors");
  EXPECT_EQ(inspect("base/tokenizer.json", dir_.path()).json["facts"]["tokenizer"]["splitter"], "gpt2");
  const Report got = inspect(golden_model("tiny-tied-trained").string() + " --base base", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_EQ(got.json["kind"], "PEFT adapter");
  EXPECT_EQ(got.json["facts"]["lora"]["rank"], 4);
  EXPECT_EQ(got.json["facts"]["lora"]["modules"], 14);
  EXPECT_EQ(got.json["facts"]["base_format"], "F32");
}

TEST_F(Inspect, RunDirectoryAndItsBrokenMetrics) {
  fs::create_directories(dir_ / "run/checkpoints");
  fs::copy(golden_model("tiny-tied-trained"), dir_ / "run/adapter");
  write_text(dir_ / "run/metrics.jsonl", "{\"step\": 1, \"loss\": 2.5}\n{\"step\": 2, \"loss\": 1.5}\n");
  const Report got = inspect("run --base base", dir_.path());
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_EQ(got.json["kind"], "run");
  EXPECT_EQ(got.json["facts"]["metrics"]["loss"], 1.5);
  EXPECT_EQ(got.json["facts"]["metrics"]["lines"], 2);
  write_text(dir_ / "run/metrics.jsonl", "{\"step\": 1}\n{\"step\": \n");
  expect_unsound("run --base base", dir_.path(), {"run/metrics.jsonl:2"});
}

TEST_F(Inspect, BrokenFilesAreNamed) {
  expect_unsound("absent.gguf", dir_.path(), {"absent.gguf: no such file"});
  write_text(dir_ / "noise.bin", "neither this nor that");
  expect_unsound("noise.bin", dir_.path(), {"noise.bin"});
  const std::string whole = read_text(dir_ / "base/model.safetensors");
  write_text(dir_ / "cut.safetensors", whole.substr(0, whole.size() - 5));
  expect_unsound("cut.safetensors", dir_.path(), {"cut.safetensors"});
  write_tiny_gguf(dir_ / "tiny.gguf");
  write_text(dir_ / "cut.gguf", read_text(dir_ / "tiny.gguf").substr(0, 3000));
  expect_unsound("cut.gguf", dir_.path(), {"cut.gguf"});
  write_changed_weights(
      "renamed", [](std::string& bytes) { bytes.replace(bytes.find("model.norm.weight"), 17, "model.norn.weight"); });
  expect_unsound("renamed", dir_.path(), {"renamed", "model.norm.weight", "missing"});
}

TEST_F(Inspect, ValuesThatAreNoNumbersAreFoundUnlessNotLookedFor) {
  write_changed_weights("nan",
                        [](std::string& bytes) { bytes.replace(bytes.size() - 4, 4, std::string("\0\0\xC0\x7F", 4)); });
  expect_unsound("nan", dir_.path(), {"nan", "1 of", "NaN"});
  EXPECT_EQ(run("slmi inspect --no-values nan", dir_.path()).code, 0);
}

TEST_F(Inspect, AnAdapterForAnotherBaseIsNamed) {
  fs::copy(golden_model("tiny-gqa-llama3"), dir_ / "other");
  write_text(dir_ / "other/tokenizer.json", tiny_tokenizer_json());
  expect_unsound(golden_model("tiny-tied-trained").string() + " --base other", dir_.path(),
                 {"tiny-tied-trained", "another base"});
}

TEST_F(Inspect, OneBrokenFileDoesNotHideTheOthers) {
  const Outcome got = run("slmi inspect absent base", dir_.path());
  EXPECT_EQ(got.code, 3);
  EXPECT_THAT(got.out, HasSubstr("base: Hugging Face directory, sound"));
}

}  // namespace
}  // namespace slmi::cli::testing
