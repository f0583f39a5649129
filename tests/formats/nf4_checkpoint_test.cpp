// bitsandbytes' directories: what is written reads back; each kind of broken one has its error.
#include "slmi/formats/nf4_checkpoint.h"

#include "slmi/base/random.h"
#include "slmi/formats/checkpoint.h"
#include "test_files.h"
#include "tiny_model.h"

namespace slmi::formats {
namespace {

using quant::Nf4Matrix;
using quant::Nf4Scales;

constexpr const char* kLayer = "model.layers.1.mlp.down_proj";

/// tiny_config() with every projection in NF4.
class TinyNf4 {
 public:
  explicit TinyNf4(Nf4Scales scales) : scales_(scales), model_(tiny_config()) {
    for (const auto& t : expected_tensors(tiny_config()))
      if (t.name.ends_with("_proj.weight"))
        matrices_[t.name] = quant::nf4_quantize(model_.values(t.name), t.shape[0], t.shape[1], {scales, {}});
  }

  const std::map<std::string, Nf4Matrix>& matrices() const { return matrices_; }

  std::vector<OutputTensor> tensors() const {
    std::vector<OutputTensor> out;
    for (auto& t : model_.tensors()) {
      const auto found = matrices_.find(t.name);
      if (found == matrices_.end()) {
        out.push_back(std::move(t));
        continue;
      }
      const std::string module = t.name.substr(0, t.name.size() - std::string(".weight").size());
      for (auto& plane : nf4_tensors(module, found->second, "float32")) out.push_back(std::move(plane));
    }
    return out;
  }

  void write(const std::filesystem::path& directory) const {
    HfWriteOptions options;
    options.dtype = "float32";
    options.quantization = nf4_config_json(scales_, "float32");
    write_hf_directory(directory, tiny_config(), tensors(), Provenance{}, options);
  }

 private:
  Nf4Scales scales_;
  TinyModel model_;
  std::map<std::string, Nf4Matrix> matrices_;
};

class Nf4Directory : public testing::TestWithParam<Nf4Scales> {};

TEST_P(Nf4Directory, ReadsBackWhatWasWritten) {
  const TemporaryDirectory dir;
  const TinyNf4 model(GetParam());
  model.write(dir.path());
  EXPECT_FALSE(std::filesystem::exists(dir / "quantize_config.json"));
  const auto c = Checkpoint::open(dir.path());
  EXPECT_EQ(c->names().size(), 21u);
  EXPECT_FALSE(c->gptq().has_value());
  for (const auto& [name, want] : model.matrices()) {
    const StoredTensor t = c->tensor(name);
    EXPECT_EQ(t.format, quant::WeightFormat::NF4);
    EXPECT_EQ(t.shape, (Shape{want.n, want.k}));
    ASSERT_NE(t.nf4, nullptr);
    EXPECT_EQ(t.nf4->codes, want.codes);
    EXPECT_EQ(t.nf4->absmax, want.absmax);
    EXPECT_EQ(t.nf4->absmax_codes, want.absmax_codes);
    EXPECT_EQ(t.nf4->absmax2, want.absmax2);
    EXPECT_EQ(t.nf4->offset, want.offset);
    EXPECT_EQ(t.stored_bytes(), static_cast<uint64_t>(want.bytes()) - (want.doubly_quantized() ? sizeof(float) : 0));
  }
}

TEST_P(Nf4Directory, DigestKnowsEveryPlane) {
  const TemporaryDirectory dir;
  const TinyNf4 model(GetParam());
  model.write(dir.path());
  const std::string digest = Checkpoint::open(dir.path())->content_digest();
  EXPECT_EQ(Checkpoint::open(dir.path())->content_digest(), digest);
  for (const char* suffix : {".weight", ".weight.absmax", ".weight.nested_absmax"}) {
    auto tensors = model.tensors();
    const auto plane = std::ranges::find(tensors, kLayer + std::string(suffix), &OutputTensor::name);
    if (plane == tensors.end()) {
      EXPECT_EQ(GetParam(), Nf4Scales::Plain) << suffix;
      continue;
    }
    std::vector<std::byte> bytes =
        plane->produce ? plane->produce() : std::vector(plane->bytes.begin(), plane->bytes.end());
    bytes.front() ^= std::byte{1};
    plane->bytes = {};
    plane->produce = [bytes] { return bytes; };
    write_safetensors(dir / "model.safetensors", tensors);
    EXPECT_NE(Checkpoint::open(dir.path())->content_digest(), digest) << suffix;
  }
}

INSTANTIATE_TEST_SUITE_P(Scales, Nf4Directory, testing::Values(Nf4Scales::Plain, Nf4Scales::Double));

void expect_broken(const std::vector<std::string>& parts, const std::function<void(std::vector<OutputTensor>&)>& change,
                   Nf4Scales scales = Nf4Scales::Double) {
  const TemporaryDirectory dir;
  const TinyNf4 model(scales);
  model.write(dir.path());
  auto tensors = model.tensors();
  change(tensors);
  write_safetensors(dir / "model.safetensors", tensors);
  auto with_path = parts;
  with_path.push_back(dir.path().string());
  expect_input_error(with_path, [&] { Checkpoint::open(dir.path()); });
}

OutputTensor& plane(std::vector<OutputTensor>& tensors, const std::string& suffix) {
  return *std::find_if(tensors.begin(), tensors.end(),
                       [&](const auto& t) { return t.name == kLayer + std::string(".weight") + suffix; });
}

void set_bytes(OutputTensor& t, Shape shape, std::vector<std::byte> bytes) {
  t.shape = std::move(shape);
  t.bytes = {};
  t.produce = [bytes = std::move(bytes)] { return bytes; };
}

TEST(Nf4Reader, MissingPlanesAreNamed) {
  for (const char* suffix : {"", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"}) {
    const std::string name = kLayer + std::string(".weight") + suffix;
    expect_broken({"'" + name + "' is missing, though others"},
                  [&](auto& tensors) { std::erase_if(tensors, [&](const auto& t) { return t.name == name; }); });
  }
  expect_broken({"no tensor ends in '.quant_state.bitsandbytes__nf4'"}, [](auto& tensors) {
    std::erase_if(tensors, [](const auto& t) { return t.name.find("quant_state") != std::string::npos; });
  });
}

TEST(Nf4Reader, SizesAndTablesThatDoNotFitAreNamed) {
  expect_broken({".weight' is U8 [767, 1]; expected U8 with 768 elements"}, [](auto& t) {
    set_bytes(plane(t, ""), {767, 1}, std::vector<std::byte>(767));
  });
  expect_broken({".absmax' is U8 [5]; expected U8 with 24"},
                [](auto& t) { set_bytes(plane(t, ".absmax"), {5}, std::vector<std::byte>(5)); });
  expect_broken(
      {".absmax' is F32 [3]; expected F32 with 24"},
      [](auto& t) { set_bytes(plane(t, ".absmax"), {3}, std::vector<std::byte>(12)); }, Nf4Scales::Plain);
  expect_broken({".quant_map' is another table"},
                [](auto& t) { set_bytes(plane(t, ".quant_map"), {16}, std::vector<std::byte>(64)); });
  expect_broken({".nested_quant_map' is another table"},
                [](auto& t) { set_bytes(plane(t, ".nested_quant_map"), {256}, std::vector<std::byte>(1024)); });
}

TEST(Nf4Reader, BrokenStatesAreNamed) {
  const auto broken = [](const std::vector<std::string>& parts, const std::string& state) {
    expect_broken(parts, [&](auto& t) {
      const auto bytes = bytes_of(std::string_view(state));
      set_bytes(plane(t, ".quant_state.bitsandbytes__nf4"), {static_cast<int64_t>(state.size())},
                {bytes.begin(), bytes.end()});
    });
  };
  broken({"down_proj.weight.quant_state.bitsandbytes__nf4:1:"}, "{");
  broken({"expected an object"}, "[1]");
  broken({"quant_type = \"fp4\""}, R"({"quant_type": "fp4", "blocksize": 64, "shape": [32, 48]})");
  broken({"blocksize = 128; only 64"}, R"({"quant_type": "nf4", "blocksize": 128, "shape": [32, 48]})");
  broken({"blocksize is missing", "shape = null"}, R"({"quant_type": "nf4"})");
  broken({"shape = [32]"}, R"({"blocksize": 64, "shape": [32]})");
  broken({"shape = [32,-1]"}, R"({"blocksize": 64, "shape": [32, -1]})");
  broken({"nested_blocksize = 64; only 256"},
         R"({"blocksize": 64, "shape": [32, 48], "nested_blocksize": 64, "nested_offset": 0.5})");
  broken({"nested_offset is missing"}, R"({"blocksize": 64, "shape": [32, 48], "nested_blocksize": 256})");
  broken({"'model.layers.1.mlp.down_proj.weight' is [48, 32]; the config asks for [32, 48]"},
         R"({"blocksize": 64, "shape": [48, 32], "nested_blocksize": 256, "nested_offset": 0.5})");
}

TEST(Nf4Config, WhatIsNotReadIsNamed) {
  const auto config = [](const char* key, const Json& value) {
    Json out = {{"quantization_config", nf4_config_json(Nf4Scales::Double, "bfloat16")}};
    out["quantization_config"][key] = value;
    return out;
  };
  EXPECT_TRUE(is_nf4_config(config("llm_int8_threshold", 5), "f"));
  EXPECT_FALSE(is_nf4_config(config("quant_method", "gptq"), "f"));
  EXPECT_FALSE(is_nf4_config(Json::object(), "f"));
  expect_input_error({"f: ", "only 4 bits"}, [&] { is_nf4_config(config("load_in_4bit", false), "f"); });
  expect_input_error({"\"fp4\""}, [&] { is_nf4_config(config("bnb_4bit_quant_type", "fp4"), "f"); });
  expect_input_error({"\"bfloat16\""}, [&] { is_nf4_config(config("bnb_4bit_quant_storage", "bfloat16"), "f"); });
}

}  // namespace
}  // namespace slmi::formats
