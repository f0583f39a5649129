// Merged directories: sharding, stale files, foreign directories; and slmi.json with the comparison of bases.
#include "slmi/formats/hf_directory.h"

#include <set>

#include "test_files.h"
#include "tiny_model.h"

namespace slmi::formats {
namespace {

std::set<std::string> files_in(const std::filesystem::path& directory) {
  std::set<std::string> out;
  for (const auto& e : std::filesystem::directory_iterator(directory)) out.insert(e.path().filename().string());
  return out;
}

TEST(HfDirectory, SingleFile) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir / "m");
  EXPECT_EQ(files_in(dir / "m"),
            (std::set<std::string>{"config.json", "generation_config.json", "model.safetensors", "slmi.json"}));
  const auto generation = read_json_file((dir / "m/generation_config.json").string());
  EXPECT_EQ(generation.at("eos_token_id"), Json({2, 3}));
  const auto first = read_text(dir / "m/model.safetensors");
  model.write_directory(dir / "m");
  EXPECT_EQ(read_text(dir / "m/model.safetensors"), first);
}

TEST(HfDirectory, ShardsKeepTheLimitAndAddUp) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  constexpr uint64_t kLimit = 8000;
  model.write_directory(dir.path(), kLimit);
  const auto index = read_json_file((dir / "model.safetensors.index.json").string());
  uint64_t total = 0;
  int shards = 0;
  for (const auto& name : files_in(dir.path())) {
    if (!name.ends_with(".safetensors")) continue;
    uint64_t size = 0;
    const auto file = SafetensorsFile::open(dir / name);
    for (const auto& [tensor, t] : file.tensors()) {
      size += t.bytes.size();
      EXPECT_EQ(index.at("weight_map").at(tensor), name);
    }
    EXPECT_LE(size, kLimit) << name;
    total += size;
    ++shards;
  }
  EXPECT_GT(shards, 2);
  EXPECT_TRUE(std::filesystem::exists(dir / fmt::format("model-00001-of-{:05}.safetensors", shards)));
  EXPECT_EQ(index.at("metadata").at("total_size"), total);
  EXPECT_EQ(index.at("weight_map").size(), 21u);
}

TEST(HfDirectory, ATensorLargerThanTheLimitHasItsOwnShard) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path(), 1);
  EXPECT_TRUE(std::filesystem::exists(dir / "model-00021-of-00021.safetensors"));
  EXPECT_EQ(Checkpoint::open(dir.path())->names().size(), 21u);
}

TEST(HfDirectory, StaleWeightsAreRemovedAndOthersStay) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  write_text(dir / "tokenizer.json", "{}");
  model.write_directory(dir.path(), 4000);
  model.write_directory(dir.path());
  EXPECT_EQ(files_in(dir.path()), (std::set<std::string>{"config.json", "generation_config.json", "model.safetensors",
                                                         "slmi.json", "tokenizer.json"}));
  model.write_directory(dir.path(), 4000);
  EXPECT_FALSE(std::filesystem::exists(dir / "model.safetensors"));
  EXPECT_EQ(Checkpoint::open(dir.path())->names().size(), 21u);
}

TEST(HfDirectory, ForeignModelsAreNotOverwritten) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  std::filesystem::remove(dir / "slmi.json");
  const auto before = read_text(dir / "model.safetensors");
  expect_error(ErrorKind::Output, {dir.path().string(), "model.safetensors", "another program's model"},
               [&] { model.write_directory(dir.path()); });
  EXPECT_EQ(read_text(dir / "model.safetensors"), before);
  EXPECT_TRUE(std::filesystem::exists(dir / "config.json"));
}

TEST(HfDirectory, ABrokenWriteDoesNotLoad) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  auto tensors = model.tensors();
  tensors.back().bytes = {};
  tensors.back().produce = []() -> std::vector<std::byte> { fail(ErrorKind::Numeric, "NaN"); };
  expect_error(ErrorKind::Numeric, {"NaN"},
               [&] { write_hf_directory(dir.path(), tiny_config(), tensors, Provenance{}); });
  expect_input_error({"no config.json"}, [&] { Checkpoint::open(dir.path()); });
  model.write_directory(dir.path());  // and can be written again
  EXPECT_EQ(Checkpoint::open(dir.path())->names().size(), 21u);
}

Provenance sample() {
  Provenance p;
  p.version = "0.1.0";
  p.commit = "abc";
  p.command = "slmi merge --model run";
  p.tokenizer_hash = "t1";
  p.template_name = "llama3";
  p.template_text = "{{größe}}\n";
  p.template_hash = "h1";
  p.system_prompt = "Be brief";
  p.stop_ids = {2, 128009};
  p.base = {"base/dir", "LlamaForCausalLM", "t1", "f1", std::vector<std::string>{"l1", "l2"}};
  p.adapter = "run/adapter";
  p.merge_base = "w16";
  p.weights = "real";
  return p;
}

TEST(Provenance, IsReadBack) {
  const TemporaryDirectory dir;
  EXPECT_FALSE(read_provenance(dir.path()).has_value());
  write_provenance(dir.path(), sample());
  const auto p = read_provenance(dir.path());
  ASSERT_TRUE(p.has_value());
  EXPECT_EQ(p->to_json(), sample().to_json());
  EXPECT_EQ(p->template_text, "{{größe}}\n");
  EXPECT_EQ(p->stop_ids, (std::vector<int64_t>{2, 128009}));
  EXPECT_EQ(p->base.lineage, (std::vector<std::string>{"l1", "l2"}));
  auto unknown = sample();
  unknown.base.lineage.reset();
  EXPECT_FALSE(Provenance::from_json(unknown.to_json(), "x").base.lineage.has_value());
}

TEST(Provenance, WrongContentsAreNamed) {
  const auto refused = [](const char* key, const Json& value, const std::vector<std::string>& parts) {
    Json j = sample().to_json();
    j[key] = value;
    expect_input_error(parts, [&] { Provenance::from_json(j, "slmi.json"); });
  };
  refused("schema", 2, {"slmi.json", "schema 2", "reads up to 1"});
  refused("schema", "x", {"schema"});
  refused("stop_ids", Json({"x"}), {"stop_ids"});
  refused("base", 3, {"base is number"});
  refused("template", 3, {"template is number"});
  refused("command", 3, {"command = 3"});
  refused("base", Json({{"lineage", {1}}}), {"base.lineage", "not a string"});
  refused("base", Json({{"lineage", 1}}), {"base.lineage", "list of strings"});
  Json j = sample().to_json();
  j["future"] = 1;
  EXPECT_EQ(Provenance::from_json(j, "x").command, "slmi merge --model run");
}

TEST(Provenance, BasesAreCompared) {
  const BaseIdentity base = sample().base;
  EXPECT_EQ(check_base(base, base, "adapter", "dir"), BaseMatch::Same);
  BaseIdentity other = base;
  other.lineage.reset();
  EXPECT_EQ(check_base(base, other, "adapter", "dir"), BaseMatch::LineageUnknown);
  EXPECT_EQ(check_base(other, base, "adapter", "dir"), BaseMatch::LineageUnknown);
  EXPECT_EQ(check_base(other, other, "adapter", "dir"), BaseMatch::Same);  // pristine: nothing to note
  const auto refused = [&](const BaseIdentity& at_hand, const std::string& what) {
    expect_input_error({"adapter", "dir", what, "base/dir"}, [&] { check_base(base, at_hand, "adapter", "dir"); });
  };
  other = base;
  other.fingerprint = "f2";
  refused(other, "fingerprint of the norm weights is f1, this one's f2");
  other = base;
  other.tokenizer_hash = "t2";
  refused(other, "tokenizer is t1");
  other = base;
  other.architecture = "Other";
  refused(other, "architecture");
  other = base;
  other.lineage = {"l1"};
  refused(other, "lineage is [l1, l2], this one's [l1]");
}

}  // namespace
}  // namespace slmi::formats
