// The configuration files that come with the program: each is accepted, and what it does not know is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "slmi/base/error.h"
#include "support.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

constexpr size_t kNumConfigs = 5;  // raise it with each file added

std::vector<fs::path> configs() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(SLMI_SOURCE_DIR) / "configs"))
    if (entry.path().extension() == ".json") out.push_back(entry.path());
  return out;
}

/// The command in a file's heading: "//   slmi COMMAND --config ...".
std::string command_of(const std::string& text) {
  const std::string start = "//   slmi ";
  const size_t at = text.find(start);
  return at == std::string::npos
             ? ""
             : text.substr(at + start.size(), text.find(' ', at + start.size()) - at - start.size());
}

class Configs : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_base(dir_ / "base");
    write_text(dir_ / "rows.jsonl",
               "{\"id\": \"1\", \"text\": \"play jazz\", \"answer\": \"music\"}\n"
               "{\"id\": \"2\", \"text\": \"will it rain\", \"answer\": \"weather\"}\n");
  }
  /// Reads `config` with the command that it is for, and stops before any work.
  Outcome dry_run(const std::string& config, const std::string& command) {
    const std::string inputs = command == "study" ? " --model base --out study" : " --base base";
    return run("slmi " + command + " --dry-run --data rows.jsonl" + inputs + " --config '" + config + "'", dir_.path());
  }
  TemporaryDirectory dir_;
};

TEST_F(Configs, EachOneIsAccepted) {
  const auto files = configs();
  EXPECT_EQ(files.size(), kNumConfigs);
  for (const auto& file : files) {
    const std::string command = command_of(read_text(file));
    const Outcome got = dry_run(file.string(), command);
    EXPECT_EQ(got.code, 0) << file << "\n" << got.err;
    EXPECT_THAT(got.out, HasSubstr(command == "study" ? "6 cells on 2 rows" : "rows      2 to train on")) << file;
  }
}

TEST_F(Configs, AKeyThatIsNoOptionIsRefusedWithItsLine) {
  for (const auto& file : configs()) {
    std::string text = read_text(file);
    const std::string command = command_of(text);
    const bool study = command == "study";
    const size_t at = text.find("\n{\n") + 3;
    text.insert(at, study ? "  \"format\": [\"f32\"],\n  \"latency_row\": 8,\n"
                          : "  \"learning_rate\": 1e-4,\n  \"lora_rnk\": 8,\n");
    write_text(dir_ / "changed.json", text);
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    const Outcome got = dry_run("changed.json", command);
    EXPECT_EQ(got.code, 2) << file;
    const auto expect = [&](long where, const char* key, const char* meant) {
      EXPECT_THAT(got.err,
                  HasSubstr(fmt::format("changed.json:{}: {}: no such key; did you mean {}?", where, key, meant)))
          << file;
    };
    expect(line, study ? "format" : "learning_rate", study ? "formats" : "lr");
    expect(line + 1, study ? "latency_row" : "lora_rnk", study ? "latency_rows" : "lora.rank");
  }
}

TEST_F(Configs, EachOneOpensWithTheCommandThatUsesIt) {
  for (const auto& file : configs()) {
    const std::string text = read_text(file);
    const std::string name = fs::relative(file, SLMI_SOURCE_DIR).string(),
                      start = "slmi " + command_of(text) + " --config " + name + " ";
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
