// Field lists: JSON files, resolved JSON, limits, and messages with file and line.
#include "slmi/config/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "example_config.h"
#include "slmi/base/error.h"

namespace slmi::config {
namespace {

/// The message of the Error that reading `text` ends in, "" if it is read; fails the test on another kind.
template <class T = ExampleConfig>
std::string problem_of(const std::string& text, ErrorKind kind = ErrorKind::Usage) {
  try {
    from_text<T>(text, "c.json");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    return e.what();
  }
  return "";
}

/// Leaves of a nested JSON object as dotted keys.
std::vector<std::string> dotted_keys(const Json& object, const std::string& prefix = "") {
  std::vector<std::string> out;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_object()) {
      out.push_back(prefix + name);
      continue;
    }
    for (auto& key : dotted_keys(value, prefix + name + ".")) out.push_back(key);
  }
  return out;
}

TEST(Config, ResolvedJsonHoldsEveryFieldInOrder) {
  const auto schema = schema_of<ExampleConfig>();
  std::vector<std::string> keys;
  for (const auto& field : schema.fields) keys.push_back(field.key);
  ASSERT_EQ(keys.size(), 18u);
  EXPECT_EQ(dotted_keys(resolved_json(ExampleConfig{})), keys);
  EXPECT_EQ(keys.back(), "seed");
  EXPECT_NE(schema.find_key("lora.rank"), nullptr);
}

TEST(Config, ResolvedJsonReadsBackEqual) {
  ExampleConfig config;
  config.base = "m";
  config.out = "some/where";
  config.lr = 1.0 / 3.0;
  config.packing = false;
  config.compute = Shade::Bf16;
  config.limit = 7;
  config.model = {"a=b,c", "d"};
  config.batch = {3};
  config.lora.alpha = 0.1;
  config.lora.targets = {};
  config.runtime.seed = 0xFFFFFFFFFFFFFFFFu;
  const auto text = resolved_json(config).dump(2);
  const auto back = from_text<ExampleConfig>(text, "c.json");
  EXPECT_EQ(resolved_json(back).dump(2), text);
  EXPECT_EQ(back.lr, config.lr);
  EXPECT_EQ(back.runtime.seed, config.runtime.seed);
  EXPECT_EQ(back.compute, Shade::Bf16);
  EXPECT_FALSE(back.note.has_value());
  EXPECT_EQ(back.model, config.model);
}

TEST(Config, ReadsCommentsNestedAndInlinedFields) {
  const auto config = from_text<ExampleConfig>(R"({
    // the base
    "base": "b", "lora": {"rank": 8, /* wide */ "alpha": 16}, "threads": 3, "limit": null
  })",
                                               "c.json");
  EXPECT_EQ(config.lora.rank, 8);
  EXPECT_EQ(config.lora.alpha, 16.0);
  EXPECT_EQ(config.runtime.threads, 3);
  EXPECT_EQ(config.max_seq_len, 512);
}

TEST(Config, ReportsEveryProblemWithItsLine) {
  EXPECT_EQ(problem_of(R"({
  "base": "b",
  "lora": {
    "rank": 0,
    "alpa": 3,
    "targets": ["q", "w"]
  },
  "lr": 0,
  "dropout": 1,
  "packing": "yes",
  "compute": "fp32",
  "limit": 0, "batch": 8,
  "text": [1],
  "learning_rate": 1e-3,
  "max-seq-len": 9,
  "lora_rank": 3,
  "threads": 2.5,
  "seed": -1,
  "zzzzzz": {}
})"),
            "c.json:4: lora.rank = 0; expected an integer, 1..256\n"
            "c.json:5: lora.alpa: no such key; did you mean lora.alpha?\n"
            "c.json:6: lora.targets = [\"q\",\"w\"]; expected a list, each one of q, k, v, o\n"
            "c.json:8: lr = 0; expected a number, > 0\n"
            "c.json:9: dropout = 1; expected a number, >= 0, < 1\n"
            "c.json:10: packing = \"yes\"; expected true or false\n"
            "c.json:11: compute = \"fp32\"; expected one of auto, f32, bf16; did you mean f32?\n"
            "c.json:12: limit = 0; expected an integer, >= 1, or null\n"
            "c.json:12: batch = 8; expected a list, each an integer, 1..4096\n"
            "c.json:13: text = [1]; expected a list, each text\n"
            "c.json:14: learning_rate: no such key; did you mean lr?\n"
            "c.json:15: max-seq-len: no such key; did you mean max_seq_len?\n"
            "c.json:16: lora_rank: no such key; did you mean lora.rank?\n"
            "c.json:17: threads = 2.5; expected an integer, 0..1024\n"
            "c.json:18: seed = -1; expected an integer, >= 0\n"
            "c.json:19: zzzzzz: no such key");
}

TEST(Config, IntegersMustFitTheirType) {
  EXPECT_NE(problem_of(R"({"base": "b", "max_seq_len": 9223372036854775808})"), "");
  EXPECT_EQ(problem_of(R"({"base": "b", "max_seq_len": 9223372036854775807})"), "");
  EXPECT_EQ(problem_of(R"({"base": "b", "seed": 18446744073709551615})"), "");
  EXPECT_NE(problem_of(R"({"base": "b", "seed": 18446744073709551616})"), "");
}

TEST(Config, RequiredFieldsMustBeGiven) {
  EXPECT_EQ(problem_of("{}"), "--base is required (by flag, or as key base of the --config file)");
  EXPECT_EQ(problem_of(R"({"base": ""})"), "c.json:1: base = \"\"; expected text that is not empty");
}

TEST(Config, CrossFieldChecksRunOnceTheFieldsAreGood) {
  EXPECT_EQ(problem_of(R"({"base": "b", "dry_run": true, "limit": 3})"), "--dry-run reads all rows; leave --limit out");
}

TEST(Config, AValueWithoutItsSwitchIsRefusedWhereItChangesSomething) {
  EXPECT_EQ(problem_of<DrinkConfig>("{\"coffee\": true,\n\"minutes\": 5,\n\"iced\": true, \"foam\": false}"),
            "c.json:3: iced belongs to --tea, not to --coffee; leave it out, or say --tea instead\n"
            "c.json:2: minutes belongs to --tea, not to --coffee; leave it out, or say --tea instead\n"
            "c.json:2: minutes has no meaning with --iced; leave one of the two out");
  EXPECT_EQ(problem_of<DrinkConfig>(R"({"milk": 2})"),
            "say which: --tea or --coffee\n"
            "c.json:1: milk belongs to --tea or --coffee; give that too, or leave it out");
  EXPECT_EQ(problem_of<DrinkConfig>(R"({"tea": true, "iced": true, "minutes": 4})"),
            "c.json:1: minutes has no meaning with --iced; leave one of the two out");
  EXPECT_EQ(problem_of<DrinkConfig>(R"({"coffee": true, "minutes": 3, "milk": 5, "foam": false})"), "")
      << "a file may name the default";
  DrinkConfig coffee;
  coffee.coffee = true;
  EXPECT_EQ(problem_of<DrinkConfig>(resolved_json(coffee).dump()), "") << "a resolved file names every field";
}

TEST(Config, BrokenFilesSayWhere) {
  EXPECT_NE(problem_of("{\"base\": \"b\",\n \"lr\": }").find("c.json:2:"), std::string::npos);
  EXPECT_NE(problem_of("").find("c.json:1:1: not valid JSON"), std::string::npos);
  EXPECT_NE(problem_of("\xEF\xBB\xBF{}").find("byte-order mark"), std::string::npos);
  EXPECT_EQ(problem_of("[1]"),
            "c.json:1: a configuration is one JSON object {...}\n"
            "--base is required (by flag, or as key base of the --config file)");
  EXPECT_EQ(problem_of("{\"base\": \"b\",\n\"lora\": {\"rank\": 1,\n\"rank\": 2}}"),
            "c.json:3: lora.rank stands twice, first on line 2");
  EXPECT_EQ(problem_of(R"({"base": "b", "lora": 3})"), "c.json:1: lora = 3; expected an object {...}");
  EXPECT_NE(problem_of("{\"model\": " + std::string(2000, '[')).find("c.json"), std::string::npos);
}

TEST(Config, FilesAreReadFromDisk) {
  const auto path = std::filesystem::temp_directory_path() / "slmi_config_test.json";
  std::ofstream(path) << R"({"base": "b", "lr": 0.5})";
  EXPECT_EQ(from_file<ExampleConfig>(path.string()).lr, 0.5);
  std::filesystem::remove(path);
  try {
    from_file<ExampleConfig>(path.string());
    FAIL() << "a missing file was read";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Input);
    EXPECT_NE(std::string(e.what()).find("slmi_config_test.json"), std::string::npos);
  }
}

TEST(Config, TablesNameEveryField) {
  const auto values = values_table(ExampleConfig{});
  const auto markdown = markdown_table<ExampleConfig>();
  for (const auto& field : schema_of<ExampleConfig>().fields) {
    EXPECT_NE(values.find("  " + field.key + " "), std::string::npos) << field.key;
    EXPECT_NE(markdown.find("`" + field.key + "`"), std::string::npos) << field.key;
    EXPECT_NE(markdown.find("`--" + field.flag), std::string::npos) << field.flag;
  }
  EXPECT_NE(values.find("lora.alpha    32\n"), std::string::npos) << values;
  EXPECT_NE(markdown.find("| `--lora-rank` | `lora.rank` | 16 | 1..256 | Rank R of the update |"), std::string::npos)
      << markdown;
  EXPECT_NE(markdown.find("tokens \\| ids"), std::string::npos) << "a pipe must not end the cell";
  EXPECT_NE(markdown.find("| all processors |"), std::string::npos);
}

struct TwiceInner {
  bool x = false;
  template <class V>
  static void fields(V&& field) {
    field("no_y", &TwiceInner::x, "help");
  }
};
struct Twice {
  bool y = false;
  TwiceInner inner;
  template <class V>
  static void fields(V&& field) {
    field("y", &Twice::y, "help");
    field(Inline{}, &Twice::inner);
  }
};
struct Unhelpful {
  bool y = false;
  template <class V>
  static void fields(V&& field) {
    field("y", &Unhelpful::y);
  }
};

template <bool kOther>
struct Dependent {
  bool y = false;
  int64_t z = 0;
  template <class V>
  static void fields(V&& field) {
    field("y", &Dependent::y, OnlyWith{kOther ? "z" : "w"}, "help");
    field("z", &Dependent::z, "help");
  }
};

TEST(Config, NamesThatCollideAreRefused) {
  EXPECT_THROW(schema_of<Twice>(), Error);
  EXPECT_THROW(schema_of<Unhelpful>(), Error);
  EXPECT_THROW(schema_of<Dependent<false>>(), Error) << "there is no w";
  EXPECT_THROW(schema_of<Dependent<true>>(), Error) << "z is no switch";
}

}  // namespace
}  // namespace slmi::config
