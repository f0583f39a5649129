// The configuration files that come with the program: each is accepted, and what it does not know is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

constexpr size_t kNumConfigs = 2;  // raise it with each file added

std::vector<fs::path> configs() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(SLMI_SOURCE_DIR) / "configs"))
    if (entry.path().extension() == ".json") out.push_back(entry.path());
  return out;
}

class Configs : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_base(dir_ / "base");
    write_text(dir_ / "rows.jsonl",
               "{\"id\": \"1\", \"text\": \"play jazz\", \"answer\": \"music\"}\n"
               "{\"id\": \"2\", \"text\": \"will it rain\", \"answer\": \"weather\"}\n");
  }
  Outcome dry_run(const std::string& config) {
    return run("slmi train --dry-run --base base --data rows.jsonl --config '" + config + "'", dir_.path());
  }
  TemporaryDirectory dir_;
};

TEST_F(Configs, EachOneIsAccepted) {
  const auto files = configs();
  EXPECT_EQ(files.size(), kNumConfigs);
  for (const auto& file : files) {
    const Outcome got = dry_run(file.string());
    EXPECT_EQ(got.code, 0) << file << "\n" << got.err;
    EXPECT_THAT(got.out, HasSubstr("rows      2 to train on"));
  }
}

TEST_F(Configs, AKeyThatIsNoOptionIsRefusedWithItsLine) {
  for (const auto& file : configs()) {
    std::string text = read_text(file);
    text.insert(text.find("\n{\n") + 3, "  \"learning_rate\": 1e-4,\n  \"lora_rnk\": 8,\n");
    write_text(dir_ / "changed.json", text);
    const Outcome got = dry_run("changed.json");
    EXPECT_EQ(got.code, 2) << file;
    EXPECT_THAT(got.err, HasSubstr("changed.json:4: learning_rate: no such key; did you mean lr?")) << file;
    EXPECT_THAT(got.err, HasSubstr("changed.json:5: lora_rnk: no such key; did you mean lora.rank?")) << file;
  }
}

TEST_F(Configs, EachOneOpensWithTheCommandThatUsesIt) {
  for (const auto& file : configs()) {
    const std::string text = read_text(file);
    const std::string name = fs::relative(file, SLMI_SOURCE_DIR).string(), start = "slmi train --config " + name + " ";
    const size_t at = text.find("//   " + start);
    ASSERT_NE(at, std::string::npos) << file;
    const std::string command = text.substr(at + 5, text.find('\n', at) - at - 5);
    // Every flag of it is known: without its files it ends as an input error, not as one of usage.
    write_text(dir_ / name, text);
    const Outcome got = run(command, dir_.path());
    EXPECT_EQ(got.code, 3) << command << "\n" << got.err;
  }
}

}  // namespace
}  // namespace slmi::cli::testing
