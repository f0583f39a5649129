// A configuration with every kind of field, for the tests of the config module.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "slmi/config/config.h"

namespace slmi::config {

enum class Shade { Auto, F32, Bf16 };

struct ExampleLora {
  int64_t rank = 16;
  double alpha = 32.0;
  std::vector<std::string> targets = {"q", "v"};

  template <class V>
  static void fields(V&& field) {
    field("rank", &ExampleLora::rank, Range{1, 256}, Synonyms{"lora-r", "r"}, "Rank R of the update");
    field("alpha", &ExampleLora::alpha, Range{0.01, 1024}, "Scale: the update is (alpha / rank) * B * A");
    field("targets", &ExampleLora::targets, Flag{"targets"}, CommaSeparated{}, OneOf{"q", "k", "v", "o"},
          "Projections that get an update");
  }
};

struct ExampleRuntime {
  int threads = 0;
  uint64_t seed = 1;

  template <class V>
  static void fields(V&& field) {
    field("threads", &ExampleRuntime::threads, Range{0, 1024}, DefaultText{"all processors"}, "CPU threads");
    field("seed", &ExampleRuntime::seed, "Seed of every random choice");
  }
};

struct ExampleConfig {
  std::string base;
  std::filesystem::path out = "run";
  double lr = 2e-4;
  double dropout = 0.05;
  bool packing = true;
  bool dry_run = false;
  Shade compute = Shade::Auto;
  std::optional<int64_t> limit;
  std::optional<std::string> note;
  std::vector<std::string> model;
  std::vector<int64_t> batch = {1, 8, 32};
  std::vector<std::string> text;
  int64_t max_seq_len = 512;
  ExampleLora lora;
  ExampleRuntime runtime;

  template <class V>
  static void fields(V&& field) {
    field("base", &ExampleConfig::base, Required{}, Metavar{"MODEL"}, "Model to start from");
    field("out", &ExampleConfig::out, Metavar{"DIR"}, "Where the run goes");
    field("lr", &ExampleConfig::lr, Above{0}, Synonyms{"learning-rate"}, Group{"Training"}, "Peak learning rate");
    field("dropout", &ExampleConfig::dropout, AtLeast{0}, Below{1}, "Dropout on the input of each update");
    field("packing", &ExampleConfig::packing, "Put several rows into one sequence");
    field("dry_run", &ExampleConfig::dry_run, "Only say what would be done");
    field("compute", &ExampleConfig::compute,
          Choice<Shade>{{"auto", Shade::Auto}, {"f32", Shade::F32}, {"bf16", Shade::Bf16}}, "Type of the products");
    field("limit", &ExampleConfig::limit, AtLeast{1}, "Rows to read");
    field("note", &ExampleConfig::note, "Free text kept with the run");
    field("model", &ExampleConfig::model, Metavar{"[NAME=]MODEL"}, "A model to look at");
    field("batch", &ExampleConfig::batch, CommaSeparated{}, Range{1, 4096}, "Batch sizes");
    field("text", &ExampleConfig::text, Positional{}, "Requests");
    field("max_seq_len", &ExampleConfig::max_seq_len, AtLeast{8}, "Longest row in tokens | ids");
    field("lora", &ExampleConfig::lora, Group{"LoRA"});
    field(Inline{}, &ExampleConfig::runtime, Group{"Machine"});
  }

  void check(std::vector<std::string>& problems) const {
    if (dry_run && limit) problems.push_back("--dry-run reads all rows; leave --limit out");
  }
};

/// Two forms of one thing, and fields that belong to one of them or to both.
struct DrinkConfig {
  bool tea = false, coffee = false, iced = false, foam = true;
  int64_t minutes = 3;
  double milk = 0;

  template <class V>
  static void fields(V&& field) {
    using T = DrinkConfig;
    field("tea", &T::tea, "Make tea");
    field("coffee", &T::coffee, "Make coffee");
    field("iced", &T::iced, OnlyWith{"tea"}, "Serve it cold");
    field("minutes", &T::minutes, OnlyWith{"tea"}, NotWith{"iced"}, "How long it draws");
    field("foam", &T::foam, OnlyWith{"coffee"}, "Foam on top");
    field("milk", &T::milk, OnlyWith{"tea", "coffee"}, "Millilitres of milk");
  }
  void check(std::vector<std::string>& problems) const {
    if (!tea && !coffee) problems.emplace_back("say which: --tea or --coffee");
  }
};

}  // namespace slmi::config
