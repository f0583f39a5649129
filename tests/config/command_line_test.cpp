// Flags: every field has one, flags win over the file, and what is mistyped is answered with a suggestion.
#include "slmi/config/command_line.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>

#include "example_config.h"
#include "slmi/base/error.h"

namespace slmi::config {
namespace {

/// A program `slmi` with the commands train (all of ExampleConfig) and eval.
class CommandLine : public ::testing::Test {
 protected:
  void SetUp() override {
    app_.name("slmi");
    app_.require_subcommand(1);
    app_.set_version_flag("--version", "slmi 1.2.3");
    auto* train = app_.add_subcommand("train", "Fine-tune a model");
    binding_ = bind<ExampleConfig>(*train);
    train->footer("Example:\n  slmi train --base b");
    train->callback([this] {
      ++calls_;
      config_ = binding_->resolve();
    });
    app_.add_subcommand("eval", "Measure a model");
  }

  std::optional<std::string> parse(std::vector<std::string> arguments) {
    std::vector<const char*> argv = {"slmi"};
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    return parse_or_fail(app_, static_cast<int>(argv.size()), argv.data());
  }

  std::string problem(std::vector<std::string> arguments) {
    try {
      parse(std::move(arguments));
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::Usage) << e.what();
      return e.what();
    }
    return "";
  }

  CLI::App app_{"Small language models"};
  std::shared_ptr<Binding<ExampleConfig>> binding_;
  ExampleConfig config_;
  int calls_ = 0;
};

TEST_F(CommandLine, EveryFieldHasAFlagAndStandsInTheHelp) {
  const auto help = parse({"train", "--help"});
  ASSERT_TRUE(help.has_value());
  EXPECT_EQ(calls_, 0);
  auto* train = app_.get_subcommand("train");
  for (const auto& field : binding_->schema().fields) {
    EXPECT_NE(train->get_option_no_throw("--" + field.flag), nullptr) << field.flag;
    EXPECT_NE(help->find("  --" + field.flag), std::string::npos) << field.flag;
    if (field.kind == Kind::Boolean) {
      EXPECT_NE(train->get_option_no_throw("--no-" + field.flag), nullptr);
      EXPECT_NE(help->find(", --no-" + field.flag), std::string::npos);
    }
  }
  for (const char* part : {"Usage: slmi train [options] [TEXT]", "--lora-rank N", "[default 16; 1..256]",
                           "Training:", "LoRA:", "Machine:", "--base MODEL", "[required]", "--compute auto|f32|bf16",
                           "[default auto]", "[default all processors; 0..1024]", "--config FILE",
                           "[default 0.05; >= 0, < 1]", "[default 0.0002; > 0]", "Example:\n  slmi train --base b"}) {
    EXPECT_NE(help->find(part), std::string::npos) << part << "\n" << *help;
  }
}

TEST_F(CommandLine, FlagsOfEveryKindAreRead) {
  EXPECT_FALSE(parse({"train",
                      "--base",
                      "b",
                      "--out=x",
                      "--lr",
                      "1e-3",
                      "--no-packing",
                      "--dry-run",
                      "--compute",
                      "bf16",
                      "--note",
                      "[a, b]",
                      "--model",
                      "n=a,b",
                      "--model",
                      "c",
                      "--batch",
                      "2,4",
                      "--batch",
                      "6",
                      "--lora-rank",
                      "4",
                      "--targets",
                      "q,o",
                      "--seed",
                      "18446744073709551615",
                      "--threads",
                      "2",
                      "two oat milks, please",
                      "-3"})
                   .has_value());
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(config_.base, "b");
  EXPECT_EQ(config_.out, "x");
  EXPECT_EQ(config_.lr, 1e-3);
  EXPECT_FALSE(config_.packing);
  EXPECT_TRUE(config_.dry_run);
  EXPECT_EQ(config_.compute, Shade::Bf16);
  EXPECT_EQ(config_.note, "[a, b]");
  EXPECT_EQ(config_.model, (std::vector<std::string>{"n=a,b", "c"}));
  EXPECT_EQ(config_.batch, (std::vector<int64_t>{2, 4, 6}));
  EXPECT_EQ(config_.lora.rank, 4);
  EXPECT_EQ(config_.lora.targets, (std::vector<std::string>{"q", "o"}));
  EXPECT_EQ(config_.runtime.seed, 18446744073709551615u);
  EXPECT_EQ(config_.text, (std::vector<std::string>{"two oat milks, please", "-3"}));
  EXPECT_FALSE(config_.limit.has_value());
}

TEST_F(CommandLine, FlagsWinOverTheFileAndTheFileOverDefaults) {
  const auto path = (std::filesystem::temp_directory_path() / "slmi_flags_test.json").string();
  std::ofstream(path) << R"({"base": "from-file", "lora": {"rank": 2, "alpha": 4}, "packing": false, "model": ["m"]})";
  parse({"train", "--config", path, "--lora-rank", "16", "--packing", "--model", "other"});
  std::filesystem::remove(path);
  EXPECT_EQ(config_.base, "from-file");
  EXPECT_EQ(config_.lora.rank, 16) << "a flag wins even when it equals the default";
  EXPECT_EQ(config_.lora.alpha, 4.0);
  EXPECT_TRUE(config_.packing);
  EXPECT_EQ(config_.model, (std::vector<std::string>{"other"}));
  EXPECT_EQ(config_.lr, 2e-4);
  EXPECT_EQ(binding_->source_of("lora.rank"), Source::Flag);
  EXPECT_EQ(binding_->source_of("lora.alpha"), Source::File);
  EXPECT_EQ(binding_->source_of("lr"), Source::Default);
  EXPECT_EQ(binding_->text_of("lora.rank"), "16");
  EXPECT_EQ(binding_->text_of("lr"), std::nullopt);
}

TEST_F(CommandLine, AFileOfTheCallersComesBeforeConfig) {
  const auto path = (std::filesystem::temp_directory_path() / "slmi_resume_test.json").string();
  std::ofstream(path) << R"({"base": "resumed", "lr": 0.5})";
  app_.get_subcommand("train")->callback([&] { config_ = binding_->resolve(path); });
  parse({"train", "--lr", "0.25"});
  std::filesystem::remove(path);
  EXPECT_EQ(config_.base, "resumed");
  EXPECT_EQ(config_.lr, 0.25);
}

TEST_F(CommandLine, UnknownOptionsAreAnsweredWithASuggestion) {
  EXPECT_EQ(problem({"train", "--base", "b", "--lora-ranks", "8"}),
            "--lora-ranks: no such option; did you mean --lora-rank? See slmi train --help");
  EXPECT_EQ(problem({"train", "--learning-rate=1", "--max_seq_len", "9", "--rank", "3", "--lora-r", "3", "--no-pack",
                     "--qqqqqqqqqq", "1"}),
            "--learning-rate: no such option; did you mean --lr? See slmi train --help\n"
            "--max_seq_len: no such option; did you mean --max-seq-len? See slmi train --help\n"
            "--rank: no such option; did you mean --lora-rank? See slmi train --help\n"
            "--lora-r: no such option; did you mean --lora-rank? See slmi train --help\n"
            "--no-pack: no such option; did you mean --no-packing? See slmi train --help\n"
            "--qqqqqqqqqq: no such option. See slmi train --help");
  EXPECT_EQ(problem({"train", "--confg", "x"}),
            "--confg: no such option; did you mean --config? See slmi train --help");
  EXPECT_EQ(calls_, 0);
}

TEST_F(CommandLine, UnknownCommandsAreAnsweredWithASuggestion) {
  EXPECT_EQ(problem({"trian", "--base", "b"}), "trian: no such command; did you mean train? See slmi --help");
  EXPECT_EQ(problem({"qqqqqqq"}), "qqqqqqq: no such command; the commands are train, eval. See slmi --help");
  EXPECT_EQ(problem({"--verzion"}), "--verzion: no such option; did you mean --version? See slmi --help");
  EXPECT_EQ(problem({"eval", "x"}), "'x': this command takes no such argument. See slmi eval --help");
  EXPECT_NE(problem({}).find("See slmi --help"), std::string::npos);
}

TEST_F(CommandLine, BadValuesAreReportedTogether) {
  EXPECT_EQ(problem({"train", "--lora-rank", "0", "--lr", "fast", "--compute", "bf61", "--batch", "1,x,,3", "--limit",
                     "-2", "--lora-alpha", "nan", "--packing=maybe"}),
            "--lr = fast; expected a number, > 0\n"
            "--packing = maybe; expected true or false\n"
            "--compute = bf61; expected one of auto, f32, bf16; did you mean bf16?\n"
            "--limit = -2; expected an integer, >= 1, or null\n"
            "--batch = x; expected an integer, 1..4096\n"
            "--batch = (empty); expected an integer, 1..4096\n"
            "--lora-rank = 0; expected an integer, 1..256\n"
            "--lora-alpha = nan; expected a number, 0.01..1024\n"
            "--base is required (by flag, or as key base of the --config file)");
}

TEST_F(CommandLine, FileAndFlagProblemsComeInOneMessage) {
  const auto path = (std::filesystem::temp_directory_path() / "slmi_both_test.json").string();
  std::ofstream(path) << "{\n\"lr\": -1,\n\"bas\": \"b\"}";
  const auto text = problem({"train", "--config", path, "--threads", "x"});
  std::filesystem::remove(path);
  EXPECT_EQ(text, path + ":2: lr = -1; expected a number, > 0\n" + path + ":3: bas: no such key; did you mean base?\n" +
                      "--threads = x; expected an integer, 0..1024\n" +
                      "--base is required (by flag, or as key base of the --config file)");
}

TEST_F(CommandLine, ValuesMustFollowTheirFlags) {
  EXPECT_EQ(problem({"train", "--base"}), "--base needs a value. See slmi train --help");
  EXPECT_EQ(problem({"train", "--base", "a", "--base", "b"}),
            "--base stands more than once; give it once. See slmi train --help");
}

/// What `slmi brew` with these arguments says: a problem, or the help.
std::string brew(std::vector<std::string> arguments) {
  CLI::App app{"Drinks"};
  app.name("slmi");
  auto* command = app.add_subcommand("brew", "Make a drink");
  auto binding = bind<DrinkConfig>(*command);
  command->callback([binding] { binding->resolve(); });
  std::vector<const char*> argv = {"slmi", "brew"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  try {
    return parse_or_fail(app, static_cast<int>(argv.size()), argv.data()).value_or("");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Usage) << e.what();
    return e.what();
  }
}

TEST(CommandLineSwitches, AFlagWithoutItsSwitchIsRefused) {
  EXPECT_EQ(brew({"--coffee", "--minutes", "3"}),
            "--minutes belongs to --tea, not to --coffee; leave it out, or say --tea instead")
      << "a flag counts even when it equals the default";
  EXPECT_EQ(brew({"--tea", "--no-foam", "--iced", "--minutes", "1"}),
            "--minutes has no meaning with --iced; leave one of the two out\n"
            "--no-foam belongs to --coffee, not to --tea; leave it out, or say --coffee instead");
  EXPECT_EQ(brew({"--milk", "3"}),
            "say which: --tea or --coffee\n--milk belongs to --tea or --coffee; give that too, or leave it out");
  EXPECT_EQ(brew({"--tea", "--minutes", "5", "--milk", "3", "--no-coffee"}), "");
  const auto help = brew({"--help"});
  EXPECT_NE(help.find("[default 0; with --tea or --coffee]"), std::string::npos) << help;
}

TEST(CommandLineSwitches, AFilesValueIsHeldAgainstTheFlags) {
  const auto path = (std::filesystem::temp_directory_path() / "slmi_switch_test.json").string();
  std::ofstream(path) << "{\n\"minutes\": 7,\n\"foam\": true}";
  const auto with_tea = brew({"--config", path, "--tea"}), with_coffee = brew({"--config", path, "--coffee"});
  std::filesystem::remove(path);
  EXPECT_EQ(with_tea, "");
  EXPECT_EQ(with_coffee, path + ":2: minutes belongs to --tea, not to --coffee; leave it out, or say --tea instead");
}

TEST_F(CommandLine, HelpAndVersionAreTextsToPrint) {
  EXPECT_EQ(parse({"--version"}), "slmi 1.2.3\n");
  const auto help = parse({"--help"});
  ASSERT_TRUE(help.has_value());
  EXPECT_NE(help->find("train"), std::string::npos);
  EXPECT_NE(help->find("Fine-tune a model"), std::string::npos);
}

}  // namespace
}  // namespace slmi::config
