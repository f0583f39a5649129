// Which format each tensor gets, against what llama-quantize chose (golden table).
#include "slmi/quant/gguf_mix.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <vector>

#include "slmi/base/error.h"

namespace slmi {
namespace {

using quant::FileType;
using quant::MixModel;
using quant::TypeOverride;
using quant::WeightFormat;

/// One `file` entry of golden/gguf_mix.txt: what is asked for, and the format of every tensor.
struct Case {
  MixModel model;
  int64_t width = 0, ffn = 0;
  FileType type = FileType::F32;
  uint32_t id = 0;
  std::string kind;  // plain, importance, overrides
  std::vector<std::pair<std::string, WeightFormat>> tensors;
};

void add_tensors(const std::string& name, const std::string& formats, Case& out) {
  const size_t star = name.find('*');
  std::vector<WeightFormat> by_layer;
  std::istringstream list(formats);
  for (std::string one; std::getline(list, one, ',');) by_layer.push_back(quant::parse_weight_format(one));
  if (star == std::string::npos) {
    out.tensors.emplace_back(name, by_layer.at(0));
    return;
  }
  for (int64_t i = 0; i < out.model.num_layers; ++i) {
    std::string layer_name = name;
    layer_name.replace(star, 1, std::to_string(i));
    out.tensors.emplace_back(layer_name, by_layer.size() == 1 ? by_layer[0] : by_layer.at(static_cast<size_t>(i)));
  }
}

std::vector<Case> read_cases() {
  std::ifstream in(std::string(SLMI_SOURCE_DIR) + "/tests/quant/golden/gguf_mix.txt");
  if (!in) throw std::runtime_error("golden/gguf_mix.txt cannot be opened");
  std::vector<Case> out;
  Case current;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string first, second;
    words >> first;
    if (first == "#") continue;
    if (first == "model") {
      words >> current.model.num_layers >> current.width >> current.ffn >> current.model.heads_per_kv_head >>
          current.model.tied_head;
    } else if (first == "file") {
      current.tensors.clear();
      words >> second >> current.id >> current.kind;
      current.type = quant::parse_file_type(second);
      current.model.has_importance = current.kind == "importance";
      out.push_back(current);
    } else {
      words >> second;
      add_tensors(first, second, out.back());
    }
  }
  return out;
}

/// Row-major shape; only the number of dimensions and the last one count.
std::vector<int64_t> shape_of(const std::string& name, const Case& c) {
  if (name.find("norm") != std::string::npos) return {c.width};
  return {8, name.find("ffn_down") != std::string::npos ? c.ffn : c.width};
}

std::vector<TypeOverride> overrides_of(const Case& c) {
  std::vector<TypeOverride> out;
  if (c.kind != "overrides") return out;
  for (const char* text : {"token_embd=q5_k", R"(blk\.1\.attn_q=q2_k)", "ffn_(up|gate)=q6_k"}) {
    out.push_back(quant::parse_type_override(text));
  }
  return out;
}

TEST(GgufMix, EveryTensorGetsWhatLlamaQuantizeGivesIt) {
  const std::vector<Case> cases = read_cases();
  ASSERT_EQ(cases.size(), 8u * 9 * 2 + 6);  // models x file types x (plain, importance), and the overrides
  size_t compared = 0;
  for (const Case& c : cases) {
    EXPECT_EQ(quant::file_type_id(c.type), c.id) << quant::name(c.type);
    const std::vector<TypeOverride> overrides = overrides_of(c);
    for (const auto& [name, want] : c.tensors) {
      const WeightFormat got = quant::tensor_format(c.type, name, shape_of(name, c), c.model, overrides);
      EXPECT_EQ(quant::name(got), quant::name(want))
          << quant::name(c.type) << ' ' << c.kind << ' ' << name << ", " << c.model.num_layers << " layers of "
          << c.width << " and " << c.ffn;
      ++compared;
    }
  }
  EXPECT_GT(compared, 30000u);
}

TEST(GgufMix, FirstOverrideThatMatchesDecidesAndFallsBackToo) {
  const std::vector<TypeOverride> overrides = {quant::parse_type_override("ATTN_Q=Q5_K"),
                                               quant::parse_type_override("attn=f16")};
  const MixModel model{.num_layers = 4};
  const auto format = [&](FileType type, const char* name, int64_t k) {
    return quant::tensor_format(type, name, std::vector<int64_t>{32, k}, model, overrides);
  };
  EXPECT_EQ(format(FileType::Q8_0, "blk.0.attn_q.weight", 256), WeightFormat::Q5_K);
  EXPECT_EQ(format(FileType::Q8_0, "blk.0.attn_q.weight", 96), WeightFormat::Q5_1);
  EXPECT_EQ(format(FileType::Q8_0, "blk.0.attn_q.weight", 80), WeightFormat::F16);
  EXPECT_EQ(format(FileType::Q8_0, "blk.0.attn_k.weight", 256), WeightFormat::F16);
  EXPECT_EQ(format(FileType::Q8_0, "blk.0.ffn_up.weight", 256), WeightFormat::Q8_0);
  EXPECT_EQ(format(FileType::F16, "blk.0.attn_q.weight", 256), WeightFormat::Q5_K);
  EXPECT_EQ(format(FileType::Q8_0, "blk.0.attn_q_norm.weight", 256), WeightFormat::F32);
}

TEST(GgufMix, NamesAndNumbersGoBothWays) {
  for (const FileType type : quant::all_file_types()) EXPECT_EQ(quant::parse_file_type(quant::name(type)), type);
  EXPECT_EQ(quant::parse_file_type("q4_k_m"), FileType::Q4_K_M);
  EXPECT_EQ(quant::all_file_types().size(), 9u);
}

template <class Body>
void expect_usage_error(const std::string& part, const Body& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Usage);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(GgufMixErrors, SayWhatIsExpected) {
  expect_usage_error("did you mean Q4_K_M?; there are F32, F16, BF16, Q8_0", [] { quant::parse_file_type("Q4_K_X"); });
  for (const char* text : {"attn_q", "=q4_k", "attn_q="}) {
    expect_usage_error("expected PATTERN=TYPE", [&] { quant::parse_type_override(text); });
  }
  expect_usage_error("'q9_k' is unknown", [] { quant::parse_type_override("attn_q=q9_k"); });
  expect_usage_error("GGUF files have no NF4", [] { quant::parse_type_override("attn_q=nf4"); });
  expect_usage_error("no regular expression", [] { quant::parse_type_override("attn_(q=q4_k"); });
}

}  // namespace
}  // namespace slmi
