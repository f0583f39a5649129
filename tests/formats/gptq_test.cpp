// GPTQ directories: what is written reads back, by whichever form; each kind of broken directory has its error.
#include "slmi/formats/gptq_checkpoint.h"

#include "slmi/formats/checkpoint.h"
#include "test_files.h"
#include "tiny_gptq.h"

namespace slmi::formats {
namespace {

using quant::GptqZeros;

constexpr const char* kLayer = "model.layers.1.mlp.down_proj";

GptqConfig config_of(bool desc_act, bool sym, GptqZeros label) {
  GptqConfig out;
  out.group_size = 32;
  out.desc_act = desc_act;
  out.sym = sym;
  out.label = label;
  return out;
}

GptqConfig plain() {
  return config_of(false, true, GptqZeros::MinusOne);
}

struct Form {
  const char* name;
  bool desc_act, sym;
  GptqZeros label;
};

class GptqDirectory : public testing::TestWithParam<Form> {
 protected:
  GptqConfig config() const { return config_of(GetParam().desc_act, GetParam().sym, GetParam().label); }
};

std::vector<float> values_of(const StoredTensor& t) {
  std::vector<float> out(num_elements(t.shape));
  quant::gptq_dequantize_rows(*t.gptq, out.data(), t.shape[1], 0, t.shape[0]);
  return out;
}

TEST_P(GptqDirectory, ReadsBackWhatWasWritten) {
  const TemporaryDirectory dir;
  const TinyGptq model(config());
  model.write(dir.path());
  EXPECT_TRUE(std::filesystem::exists(dir / "quantize_config.json"));
  const auto c = Checkpoint::open(dir.path());
  ASSERT_TRUE(c->gptq().has_value());
  EXPECT_EQ(c->gptq()->to_json(), config().to_json());
  EXPECT_TRUE(c->notes().empty());
  EXPECT_EQ(c->names().size(), 21u);
  EXPECT_EQ(model.codes().size(), 14u);
  uint64_t bytes = 0;
  for (const auto& [name, codes] : model.codes()) {
    const StoredTensor t = c->tensor(name);
    EXPECT_EQ(t.format, quant::WeightFormat::GPTQ);
    EXPECT_EQ(t.shape, (Shape{codes.n, codes.k}));
    EXPECT_EQ(values_of(t), model.values(name)) << name;
    bytes += t.stored_bytes();
  }
  EXPECT_GT(bytes, 0u);
  EXPECT_EQ(c->tensor("model.norm.weight").format, quant::WeightFormat::F16);
}

INSTANTIATE_TEST_SUITE_P(Forms, GptqDirectory,
                         testing::Values(Form{"symmetric_v1", false, true, GptqZeros::MinusOne},
                                         Form{"symmetric_v2", false, true, GptqZeros::AsIs},
                                         Form{"asymmetric_v1", false, false, GptqZeros::MinusOne},
                                         Form{"act_order_v1", true, true, GptqZeros::MinusOne},
                                         Form{"act_order_asymmetric_v2", true, false, GptqZeros::AsIs}),
                         [](const auto& info) { return info.param.name; });

/// The label of a directory may be wrong: then the symmetric zeros decide, and it is said.
TEST(GptqReader, AMislabelledFormIsSeenFromTheZeros) {
  for (const GptqZeros real : {GptqZeros::MinusOne, GptqZeros::AsIs}) {
    const TemporaryDirectory dir;
    const TinyGptq model(config_of(false, true, real));
    model.write(dir.path());
    for (const char* file : {"config.json", "quantize_config.json"}) {
      Json json = read_json_file((dir / file).string());
      Json& entry = std::string(file) == "config.json" ? json["quantization_config"] : json;
      entry["checkpoint_format"] = real == GptqZeros::AsIs ? "gptq" : "gptq_v2";
      write_text(dir / file, json.dump());
    }
    const auto c = Checkpoint::open(dir.path());
    ASSERT_EQ(c->notes().size(), 1u);
    EXPECT_THAT(c->notes()[0], testing::HasSubstr("checkpoint_format says"));
    const std::string name = std::string(kLayer) + ".weight";
    EXPECT_EQ(values_of(c->tensor(name)), model.values(name));
  }
}

TEST(GptqReader, OneOfTheTwoConfigurationsIsEnough) {
  const TemporaryDirectory dir;
  const TinyGptq model(plain());
  model.write(dir.path());
  std::filesystem::remove(dir / "quantize_config.json");
  EXPECT_EQ(Checkpoint::open(dir.path())->gptq()->group_size, 32);
  write_text(dir / "quantize_config.json", plain().to_json().dump());
  Json json = read_json_file((dir / "config.json").string());
  json.erase("quantization_config");
  write_text(dir / "config.json", json.dump());
  EXPECT_EQ(Checkpoint::open(dir.path())->gptq()->group_size, 32);
  std::filesystem::remove(dir / "quantize_config.json");
  expect_input_error({".qweight')", "quantization_config", "quantize_config.json"},
                     [&] { Checkpoint::open(dir.path()); });
}

/// Old programs write neither g_idx nor an empty list of biases, but zeros.
TEST(GptqReader, IndexMayBeAbsentAndBiasesZero) {
  const TemporaryDirectory dir;
  const TinyGptq model(plain());
  model.write(dir.path());
  auto tensors = model.tensors();
  std::erase_if(tensors, [](const auto& t) { return t.name.ends_with(".g_idx"); });
  const std::vector<uint16_t> zeros(64, 0), ones(64, 0x3c00);
  tensors.push_back({std::string(kLayer) + ".bias", Dtype::F16, {64}, bytes_of(zeros)});
  write_safetensors(dir / "model.safetensors", tensors);
  const std::string name = std::string(kLayer) + ".weight";
  EXPECT_EQ(values_of(Checkpoint::open(dir.path())->tensor(name)), model.values(name));
  tensors.back().bytes = bytes_of(ones);
  write_safetensors(dir / "model.safetensors", tensors);
  expect_input_error({"down_proj.bias' [64] is unexpected"}, [&] { Checkpoint::open(dir.path()); });
}

/// A directory with one change to its tensors.
void expect_broken(const std::vector<std::string>& parts, const std::function<void(std::vector<OutputTensor>&)>& change,
                   const GptqConfig& config = plain()) {
  const TemporaryDirectory dir;
  const TinyGptq model(config);
  model.write(dir.path());
  auto tensors = model.tensors();
  change(tensors);
  write_safetensors(dir / "model.safetensors", tensors);
  auto with_path = parts;
  with_path.push_back(dir.path().string());
  expect_input_error(with_path, [&] { Checkpoint::open(dir.path()); });
}

OutputTensor& plane(std::vector<OutputTensor>& tensors, const std::string& suffix) {
  return *std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == kLayer + suffix; });
}

TEST(GptqReader, MissingPlanesAreNamed) {
  for (const char* suffix : {".qweight", ".qzeros", ".scales"}) {
    expect_broken({std::string("'") + kLayer + suffix + "' is missing"}, [&](auto& tensors) {
      std::erase_if(tensors, [&](const auto& t) { return t.name == std::string(kLayer) + suffix; });
    });
  }
  expect_broken(
      {std::string(kLayer) + ".g_idx' is missing", "desc_act"},
      [](auto& tensors) { std::erase_if(tensors, [](const auto& t) { return t.name.ends_with("g_idx"); }); },
      config_of(true, true, GptqZeros::MinusOne));
  expect_broken({"no tensor ends in '.qweight'"}, [](auto& tensors) {
    std::erase_if(tensors, [](const auto& t) { return !t.name.ends_with(".weight"); });
  });
}

TEST(GptqReader, WrongTypesAndShapesAreNamed) {
  static const std::vector<std::byte> zeros(1 << 16);
  const auto set = [](OutputTensor& t, Dtype dtype, Shape shape) {
    t.dtype = dtype;
    t.shape = std::move(shape);
    t.bytes = std::span<const std::byte>(zeros).first(t.size_bytes());
  };
  expect_broken({"qweight' is I64; expected I32"}, [&](auto& t) { set(plane(t, ".qweight"), Dtype::I64, {12, 64}); });
  expect_broken({"scales' is I32; expected F16"}, [&](auto& t) { set(plane(t, ".scales"), Dtype::I32, {3, 64}); });
  expect_broken({"g_idx' is [96, 1]; expected 1 dimension"}, [&](auto& t) {
    set(plane(t, ".g_idx"), Dtype::I32, {96, 1});
  });
  expect_broken({"qzeros is [3, 7]", "must be [3, 8]"}, [&](auto& t) { set(plane(t, ".qzeros"), Dtype::I32, {3, 7}); });
  expect_broken({"scales is [3, 63]", "must be [3, 64]"}, [&](auto& t) {
    set(plane(t, ".scales"), Dtype::F16, {3, 63});
  });
  expect_broken({"multiples of 32"}, [&](auto& t) {
    set(plane(t, ".qweight"), Dtype::I32, {11, 64});
    set(plane(t, ".g_idx"), Dtype::I32, {88});
  });
  expect_broken({"g_idx has 256 bytes, needs 384"}, [&](auto& t) { set(plane(t, ".g_idx"), Dtype::I32, {64}); });
  expect_broken({"down_proj.weight' is [64, 64]; the config asks for [64, 96]"}, [&](auto& t) {
    set(plane(t, ".qweight"), Dtype::I32, {8, 64});
    set(plane(t, ".scales"), Dtype::F16, {2, 64});
    auto& qzeros = plane(t, ".qzeros");
    qzeros.shape = {2, 8};
    qzeros.bytes = qzeros.bytes.first(qzeros.size_bytes());
    set(plane(t, ".g_idx"), Dtype::I32, {64});
  });
}

TEST(GptqReader, ContentsThatCannotBeAreNamed) {
  static const std::vector<int32_t> beyond(96, 3);
  static const std::vector<uint16_t> nan(192, 0x7e00);
  static const std::vector<uint32_t> mixed(24, 0x77777778u);
  expect_broken({"g_idx[0] = 3; there are 3 groups"}, [](auto& t) { plane(t, ".g_idx").bytes = bytes_of(beyond); });
  expect_broken({"the scale of group 0, output 0 is nan"}, [](auto& t) { plane(t, ".scales").bytes = bytes_of(nan); });
  expect_broken({"sym is true, but the zeros", "set sym to false"},
                [](auto& t) { plane(t, ".qzeros").bytes = bytes_of(mixed); });
  expect_broken({"both quantized and as numbers"}, [](auto& t) {
    t.push_back({std::string(kLayer) + ".weight", Dtype::F16, {0, 96}});
  });
}

TEST(GptqReader, AllProblemsComeInOneMessage) {
  expect_broken({"2 problems", ".qzeros' is missing", "scales is [3, 63]"}, [](auto& t) {
    static const std::vector<std::byte> zeros(1 << 12);
    auto& scales = plane(t, ".scales");
    scales.shape = {3, 63};
    scales.bytes = std::span<const std::byte>(zeros).first(scales.size_bytes());
    std::erase_if(t, [](const auto& x) { return x.name == "model.layers.0.self_attn.q_proj.qzeros"; });
  });
}

void expect_refused(const std::string& key, const Json& value, const std::vector<std::string>& parts) {
  Json json = plain().to_json();
  json[key] = value;
  auto all = parts;
  all.push_back("dir/config.json");
  expect_input_error(all, [&] { GptqConfig::from_json(json, "dir/config.json"); });
}

TEST(GptqConfigJson, WhatIsNotReadIsNamed) {
  expect_refused("quant_method", "awq", {"quant_method = \"awq\"", "16-bit checkpoint"});
  expect_refused("bits", 8, {"bits = 8; only 4"});
  expect_refused("bits", nullptr, {"bits is missing"});
  expect_refused("group_size", 0, {"group_size = 0"});
  expect_refused("group_size", -2, {"group_size = -2"});
  expect_refused("group_size", "64", {"group_size = \"64\""});
  expect_refused("desc_act", 1, {"desc_act = 1"});
  expect_refused("checkpoint_format", "marlin", {"checkpoint_format = \"marlin\"", "repacked"});
  expect_refused("is_marlin_format", true, {"is_marlin_format"});
  expect_refused("pack_dtype", "int64", {"pack_dtype = \"int64\""});
  expect_input_error({"f: holds"}, [] { GptqConfig::from_json(Json::array(), "f"); });
}

TEST(GptqConfigJson, OldFilesHaveFewKeys) {
  const GptqConfig c =
      GptqConfig::from_json(parse_json(R"({"bits": 4, "group_size": -1, "damp_percent": 0.01})", "f"), "f");
  EXPECT_EQ(c.group_size, -1);
  EXPECT_TRUE(c.sym);
  EXPECT_FALSE(c.desc_act);
  EXPECT_EQ(c.label, GptqZeros::MinusOne);
}

TEST(GptqReader, TwoConfigurationsThatContradict) {
  const TemporaryDirectory dir;
  TinyGptq(plain()).write(dir.path());
  Json json = plain().to_json();
  json["group_size"] = 64;
  write_text(dir / "quantize_config.json", json.dump());
  expect_input_error({"group_size = 32", "quantize_config.json says 64"}, [&] { Checkpoint::open(dir.path()); });
}

TEST(GptqReader, AWrongGroupSizeIsSeenFromTheData) {
  const TemporaryDirectory dir;
  TinyGptq(plain()).write(dir.path());
  Json json = read_json_file((dir / "config.json").string());
  json["quantization_config"]["group_size"] = 64;
  write_text(dir / "config.json", json.dump());
  std::filesystem::remove(dir / "quantize_config.json");
  expect_input_error({"14 problems", "in groups of 64 make"}, [&] { Checkpoint::open(dir.path()); });
  json["quantization_config"]["dynamic"] = {
      {"+:.*", {{"group_size", 32}}}};  // GPTQModel's way to give layers their own
  write_text(dir / "config.json", json.dump());
  EXPECT_EQ(Checkpoint::open(dir.path())->names().size(), 21u);
}

/// A copy that was cut short, at any place, is said to be that.
TEST(GptqReader, TruncatedDirectoriesAreNamed) {
  const TemporaryDirectory dir;
  TinyGptq(plain()).write(dir.path());
  const std::string weights = read_text(dir / "model.safetensors"), config = read_text(dir / "quantize_config.json");
  const auto open = [&] { Checkpoint::open(dir.path()); };
  for (const size_t size : {weights.size() - 1, weights.size() / 2, size_t{100}, size_t{5}}) {
    write_text(dir / "model.safetensors", weights.substr(0, size));
    expect_input_error({"model.safetensors", "cut short, copy it again"}, open);
  }
  write_text(dir / "model.safetensors", "");
  expect_input_error({"model.safetensors", "empty", "copy it again"}, open);
  std::filesystem::remove(dir / "model.safetensors");
  expect_input_error({dir.path().string(), "neither model.safetensors nor model.safetensors.index.json"}, open);
  write_text(dir / "model.safetensors", weights);
  write_text(dir / "quantize_config.json", config.substr(0, config.size() / 2));
  expect_input_error({"quantize_config.json:", "not valid JSON"}, open);
}

/// What config.json says of the method must be what the tensors are.
TEST(GptqReader, AnotherMethodsLabelIsNamed) {
  const TemporaryDirectory dir;
  TinyGptq(plain()).write(dir.path());
  std::filesystem::remove(dir / "quantize_config.json");
  Json json = read_json_file((dir / "config.json").string());
  const auto label = [&](const char* key, const Json& value) {
    Json changed = json;
    changed["quantization_config"][key] = value;
    write_text(dir / "config.json", changed.dump());
  };
  const auto open = [&] { Checkpoint::open(dir.path()); };
  label("quant_method", "awq");
  expect_input_error({"config.json", "quant_method = \"awq\""}, open);
  label("bits", 3);
  expect_input_error({"config.json", "bits = 3; only 4"}, open);
  json["quantization_config"] = nf4_config_json(quant::Nf4Scales::Double, "bfloat16");
  write_text(dir / "config.json", json.dump());
  expect_input_error({dir.path().string(), "the configuration says bitsandbytes, but no tensor ends in"}, open);
  // Sixteen bits that are called GPTQ.
  const TemporaryDirectory plain_dir;
  TinyModel(tiny_gptq_config()).write_directory(plain_dir.path());
  write_text(plain_dir / "quantize_config.json", plain().to_json().dump());
  expect_input_error({plain_dir.path().string(), "no tensor ends in '.qweight'"},
                     [&] { Checkpoint::open(plain_dir.path()); });
}

TEST(GptqReader, WritingAnotherModelThereRemovesTheConfiguration) {
  const TemporaryDirectory dir;
  TinyGptq(plain()).write(dir.path());
  TinyModel(tiny_gptq_config()).write_directory(dir.path());
  EXPECT_FALSE(std::filesystem::exists(dir / "quantize_config.json"));
  EXPECT_FALSE(Checkpoint::open(dir.path())->gptq().has_value());
}

}  // namespace
}  // namespace slmi::formats
