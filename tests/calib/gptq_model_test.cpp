// A tiny model through GPTQ: the directory is whole, its errors are those of the model that it holds, and a job that
// was stopped goes on to the same bytes.
#include "slmi/calib/gptq_model.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "../eval/tiny_model.h"
#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/calib/block_model.h"
#include "slmi/data/row_reader.h"
#include "slmi/model/gguf_export.h"

namespace slmi::calib {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

formats::LlamaConfig small_config() {
  formats::LlamaConfig c = eval::tiny_config();
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 16;
  return c;
}

class GptqModel : public testing::Test {
 protected:
  void SetUp() override {
    eval::write_tiny_model(dir_ / "model", 5, "random", eval::Norms::Moved, small_config());
    files_ = model::open_files(dir_ / "model", {});
    for (int i = 0; i < 40; ++i)
      text_ += fmt::format("{{\"text\": \"request number {} of several, please\", \"answer\": \"intent {}\"}}\n", i * 7,
                           i % 5);
    encoded_ = data::EncodedDataset::encode(data::parse_rows(text_, "rows"), *files_.prompts, {});
    rows_ = take_calibration_rows(encoded_, {24, 48, 300}, at::kCPU);
    options_.gptq.group_size = 32;
  }

  QuantizeResult quantize(const std::string& out) {
    const model::MergedWeights weights(files_, model::MergeOnto::Auto);
    return quantize_model(files_, weights_of(weights), rows_, model::provenance_of(files_, "test"), dir_ / out,
                          options_);
  }

  std::string bytes(const std::string& out, const std::string& file) const {
    return std::string(MappedFile::open(dir_ / out / file).text());
  }

  TemporaryDirectory dir_;
  model::ModelFiles files_;
  std::string text_;
  data::EncodedDataset encoded_;
  CalibrationRows rows_;
  QuantizeOptions options_;
};

TEST_F(GptqModel, RowsAreSpreadEvenlyAndCut) {
  EXPECT_EQ(rows_.num_rows, 24);
  EXPECT_EQ(rows_.num_cut, 24);
  EXPECT_EQ(rows_.num_tokens, 24 * 48);
  EXPECT_EQ(rows_.batches.size(), 4u);
  for (const auto& batch : rows_.batches) EXPECT_LE(batch.num_tokens, 300);
  const auto all = take_calibration_rows(encoded_, {1000, 1000, 4096}, at::kCPU);
  EXPECT_EQ(all.num_rows, 40);
  EXPECT_EQ(all.num_cut, 0);
  EXPECT_NE(all.hash, rows_.hash);
  EXPECT_EQ(take_calibration_rows(encoded_, {24, 48, 4096}, at::kCPU).hash, rows_.hash);
  const auto from_text =
      take_calibration_rows(data::parse_rows(text_, "rows"), *files_.prompts, {24, 48, 300}, at::kCPU);
  EXPECT_EQ(from_text.hash, rows_.hash);
  EXPECT_EQ(from_text.num_tokens, rows_.num_tokens);
}

/// What is predicted from the last token of the request on counts more; a cut row may have lost its answer.
TEST_F(GptqModel, AnswersCountMoreThanRequests) {
  CalibrationOptions options{24, CalibrationOptions::kNoLimit, 300};
  options.answer_weight = 5;
  const auto rows = take_calibration_rows(encoded_, options, at::kCPU);
  ASSERT_EQ(rows.root_weights.size(), rows.batches.size());
  double sum = 0;
  int64_t answers = 0;
  for (size_t i = 0; i < rows.batches.size(); ++i) {
    const at::Tensor weights = rows.root_weights[i].square().view({-1});
    ASSERT_EQ(weights.size(0), rows.batches[i].num_tokens);
    sum += weights.sum().item<double>();
    answers += rows.batches[i].num_targets;
    const at::Tensor of_answers = weights.index_select(0, rows.batches[i].target_rows);
    EXPECT_NEAR((of_answers / weights.min()).min().item<double>(), 5.0, 1e-4);
    EXPECT_EQ((weights > 2 * weights.min()).sum().item<int64_t>(), rows.batches[i].num_targets);
  }
  EXPECT_GT(answers, 24);
  EXPECT_NEAR(sum, static_cast<double>(rows.num_tokens), 1e-3 * sum);
  const auto cut = take_calibration_rows(encoded_, {24, 3, 300}, at::kCPU);
  for (const auto& weights : cut.root_weights) EXPECT_TRUE(at::equal(weights, at::ones_like(weights)));
}

TEST_F(GptqModel, FewerLongRowsAreTakenForAGivenNumberOfTokens) {
  // Of the 24 rows that would be taken, at 48 tokens each, as many as have 500 tokens: 10, still from end to end.
  const auto some = take_calibration_rows(encoded_, {24, 48, 300, 500}, at::kCPU);
  EXPECT_EQ(some.num_rows, 10);
  EXPECT_EQ(some.num_tokens, 10 * 48);
  EXPECT_NE(some.hash, take_calibration_rows(encoded_, {10, 48, 300}, at::kCPU).hash) << "spread over all rows anew";
  EXPECT_EQ(take_calibration_rows(encoded_, {24, 48, 300, 24 * 48}, at::kCPU).hash, rows_.hash);
  EXPECT_EQ(take_calibration_rows(encoded_, {24, 48, 300, 1}, at::kCPU).num_rows, 1);
}

TEST_F(GptqModel, TheDirectoryIsWhole) {
  const auto result = quantize("out");
  EXPECT_EQ(result.modules.size(), 14u);
  EXPECT_EQ(result.resumed_layers, 0);
  const auto c = formats::Checkpoint::open(dir_ / "out");
  ASSERT_TRUE(c->gptq().has_value());
  EXPECT_EQ(c->gptq()->group_size, 32);
  EXPECT_FALSE(c->gptq()->desc_act);
  EXPECT_EQ(c->config().torch_dtype, "float16");
  EXPECT_EQ(c->fingerprint(), files_.checkpoint->fingerprint());
  EXPECT_FALSE(c->has("lm_head.weight"));
  EXPECT_FALSE(fs::exists(dir_ / "out" / "unfinished"));
  EXPECT_THAT(bytes("out", "quantization.csv"), HasSubstr("layer,module,rows,columns,error"));
  const auto opened = model::open_files(dir_ / "out", {});
  EXPECT_EQ(opened.prompts->tokenizer().hash(), files_.prompts->tokenizer().hash());
  EXPECT_EQ(opened.provenance->template_text, model::provenance_of(files_, "").template_text);
}

/// Inputs of a group in a model that was loaded from files, over all batches.
std::map<std::pair<int64_t, std::string>, at::Tensor> inputs_of(model::Llama& llama, const CalibrationRows& rows) {
  std::map<std::pair<int64_t, std::string>, std::vector<at::Tensor>> parts;
  for (const auto& batch : rows.batches) {
    llama.reserve_positions(batch.num_positions);
    model::ForwardContext context;
    context.positions = batch.positions;
    context.plan = batch.plan;
    context.observer = [&](const ops::LinearSite& site, const at::Tensor& x) {
      parts[{site.layer, site.module}].push_back(x.to(at::kDouble));
    };
    llama.forward(batch.tokens, context);
  }
  std::map<std::pair<int64_t, std::string>, at::Tensor> out;
  for (const auto& [site, list] : parts) out[site] = at::cat(list);
  return out;
}

const char* group_of(const std::string& module) {
  if (module == "k_proj" || module == "v_proj") return "q_proj";
  return module == "up_proj" ? "gate_proj" : module.c_str();
}

at::Tensor values_of(const formats::Checkpoint& checkpoint, const std::string& name) {
  const auto m = ops::PackedMatrix::from_stored(checkpoint.tensor(name));
  const at::Tensor out = at::empty({m.n(), m.k()}, at::kFloat);
  m.dequantize_into(out);
  return out.to(at::kDouble);
}

/// In the model that was written every matrix sees exactly what it was calibrated on: what the quantized matrices
/// before it give, those of its own layer too. So the reported errors can be measured from the outside.
TEST_F(GptqModel, ErrorsAreThoseOfTheModelThatWasWritten) {
  for (const ColumnOrder order : {ColumnOrder::GroupAware, ColumnOrder::ActOrder}) {
    options_.gptq.order = order;
    const std::string out = order == ColumnOrder::ActOrder ? "act" : "aware";
    const auto result = quantize(out);
    const auto checkpoint = formats::Checkpoint::open(dir_ / out);
    EXPECT_EQ(checkpoint->gptq()->desc_act, order == ColumnOrder::ActOrder);
    const auto inputs = inputs_of(*model::Llama::load(*checkpoint, {}), rows_);
    for (const auto& m : result.modules) {
      const std::string parent = m.module.starts_with("q_") || m.module.starts_with("k_") ||
                                         m.module.starts_with("v_") || m.module.starts_with("o_")
                                     ? "self_attn"
                                     : "mlp";
      const std::string name = fmt::format("model.layers.{}.{}.{}.weight", m.layer, parent, m.module);
      const at::Tensor before = values_of(*files_.checkpoint, name), after = values_of(*checkpoint, name);
      const at::Tensor x = inputs.at({m.layer, std::string(group_of(m.module))}).t();
      const double want = (at::mm(after - before, x).norm() / at::mm(before, x).norm()).item<double>();
      EXPECT_NEAR(m.error, want, 1e-3 * want) << name;
      EXPECT_LT(m.error, m.nearest_error) << name;
      EXPECT_GT(m.error, 1e-3) << name;
    }
  }
}

struct Stopped {};

/// On the rows themselves the last hidden states come nearer to the unquantized model's.
TEST_F(GptqModel, MakesUpForWhatEarlierMatricesChanged) {
  const auto outputs = [&](const fs::path& path) {
    const auto llama = model::Llama::load(*formats::Checkpoint::open(path), {});
    std::vector<at::Tensor> out;
    for (const auto& batch : rows_.batches) {
      const auto context = model::context_of(*llama, batch);
      out.push_back(llama->forward(batch.tokens, context).to(at::kDouble));
    }
    return at::cat(out);
  };
  options_.gptq.damp = 0.01;
  const auto plain = quantize("plain");
  options_.gptq.drift_alpha = 1.0;
  const auto moved = quantize("moved");
  const at::Tensor want = outputs(dir_ / "model");
  const auto lost = [&](const char* out) { return (outputs(dir_ / out) - want).norm().item<double>(); };
  EXPECT_LT(lost("moved"), 0.97 * lost("plain"));
  // The first matrices see what they saw before: nothing to make up for.
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(moved.modules[i].error, plain.modules[i].error);
  EXPECT_NE(moved.modules[3].error, plain.modules[3].error);
}

class StoppedJob : public GptqModel, public testing::WithParamInterface<double> {};

TEST_P(StoppedJob, GoesOnToTheSameBytes) {
  options_.gptq.drift_alpha = GetParam();
  options_.keep_bytes = 0;  // activations computed twice: the same values
  quantize("whole");
  for (const int64_t stop : {2, 5, 8}) {
    const std::string out = fmt::format("stopped-{}", stop);
    options_.progress = [&](int64_t done, int64_t) {
      if (done == stop) throw Stopped();
    };
    EXPECT_THROW(quantize(out), Stopped);
    EXPECT_FALSE(fs::exists(dir_ / out / "config.json"));
    EXPECT_TRUE(fs::exists(dir_ / out / "unfinished" / "job.json"));
    options_.progress = nullptr;
    EXPECT_EQ(quantize(out).resumed_layers, stop >= 5 ? 1 : 0);
    for (const char* file : {"model.safetensors", "quantization.csv", "quantization.json", "config.json"})
      EXPECT_EQ(bytes(out, file), bytes("whole", file)) << file << ", stopped after " << stop;
  }
}

INSTANTIATE_TEST_SUITE_P(DriftAlpha, StoppedJob, testing::Values(0.0, 0.5));

TEST_F(GptqModel, TheOldModelStaysUntilTheNewOneIsWhole) {
  quantize("out");
  const std::string old = bytes("out", "model.safetensors");
  options_.gptq.damp = 0.2;
  options_.progress = [](int64_t done, int64_t) {
    if (done == 5) throw Stopped();
  };
  EXPECT_THROW(quantize("out"), Stopped);
  EXPECT_EQ(bytes("out", "model.safetensors"), old);
  EXPECT_EQ(formats::Checkpoint::open(dir_ / "out")->fingerprint(), files_.checkpoint->fingerprint());
  options_.progress = nullptr;
  EXPECT_EQ(quantize("out").resumed_layers, 1);
  EXPECT_TRUE(bytes("out", "model.safetensors") != old);
  EXPECT_FALSE(fs::exists(dir_ / "out" / "unfinished"));
}

TEST_F(GptqModel, KeptActivationsChangeNothing) {
  options_.gptq.drift_alpha = 0.25;
  quantize("kept");
  options_.keep_bytes = 0;
  quantize("again");
  EXPECT_EQ(bytes("kept", "model.safetensors"), bytes("again", "model.safetensors"));
}

void expect_error(ErrorKind kind, const std::vector<std::string>& parts, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with: " << parts[0];
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(kind)) << e.what();
    for (const auto& part : parts) EXPECT_THAT(e.what(), HasSubstr(part));
  }
}

TEST_F(GptqModel, WithoutRowsThereIsNoCalibration) {
  expect_error(ErrorKind::Input, {"no calibration rows", "--calibration FILE"}, [&] {
    take_calibration_rows(data::RowSet{}, *files_.prompts, {24, 48, 300}, at::kCPU);
  });
  expect_error(ErrorKind::Input, {"no calibration rows"}, [&] {
    take_calibration_rows(encoded_, {0, 48, 300}, at::kCPU);
  });
}

TEST_F(GptqModel, AnotherJobIsNotTakenUp) {
  options_.progress = [](int64_t done, int64_t) {
    if (done == 5) throw Stopped();
  };
  EXPECT_THROW(quantize("out"), Stopped);
  options_.progress = nullptr;
  options_.gptq.damp = 0.1;
  expect_error(ErrorKind::Usage, {"unfinished quantization", "damp 0.05, now 0.1"}, [&] { quantize("out"); });
  options_.gptq.damp = 0.05;
  std::ofstream(dir_ / "out" / "unfinished" / "layer-00000.safetensors", std::ios::app) << "x";
  expect_error(ErrorKind::Input, {"layer-00000.safetensors"}, [&] { quantize("out"); });
}

TEST_F(GptqModel, WhatCannotBeIsRefusedBeforeAnythingIsWritten) {
  options_.gptq.group_size = 64;
  expect_error(ErrorKind::Usage, {"--group-size 64", "down_proj has rows of 96"}, [&] { quantize("out"); });
  EXPECT_FALSE(fs::exists(dir_ / "out"));
  EXPECT_EQ(default_group_size(files_.checkpoint->config()), 32);
  options_.gptq.group_size = 32;
  fs::create_directories(dir_ / "full");
  std::ofstream(dir_ / "full" / "notes.txt") << "x";
  expect_error(ErrorKind::Usage, {"holds other files already"}, [&] { quantize("full"); });
  expect_error(ErrorKind::Usage, {"it is the model that is read"}, [&] { quantize("model"); });
  EXPECT_TRUE(fs::exists(dir_ / "model" / "config.json"));
}

TEST_F(GptqModel, SizesThatGptqCannotHoldAreNamedTogether) {
  auto config = small_config();
  config.num_kv_heads = 1;
  config.intermediate_size = 80;
  eval::write_tiny_model(dir_ / "odd", 5, "random", eval::Norms::Moved, config);
  files_ = model::open_files(dir_ / "odd", {});
  expect_error(ErrorKind::Usage,
               {"k_proj is [16, 64]", "v_proj", "gate_proj is [80, 64]", "down_proj", "multiples of 32"},
               [&] { quantize("out"); });
  expect_error(ErrorKind::Usage, {"k_proj is [16, 64]"}, [&] { default_group_size(config); });
}

/// A GGUF file of blocks that were chosen by GPTQ: its errors, too, can be measured from the outside.
TEST_F(GptqModel, BlocksHaveTheErrorsOfTheFileThatWasWritten) {
  const model::MergedWeights weights(files_, model::MergeOnto::Auto);
  BlockModel made;
  model::GgufExportOptions out{dir_ / "out.gguf", quant::FileType::Q4_K_M, {}, "", "test", {}};
  for (const char* wish : {"token_embd=F16", "attn_k=F16", "ffn_up=Q4_0"})
    out.overrides.push_back(quant::parse_type_override(wish));
  out.blocks = [&](const std::string& name) {
    const auto found = made.blocks.find(name);
    return found == made.blocks.end() ? std::span<const std::byte>() : std::span(found->second);
  };
  std::map<std::string, quant::WeightFormat> formats;
  for (const auto& tensor : model::plan_gguf(files_, weights, out)) formats[tensor.hf_name] = tensor.format;
  const auto quantize_with = [&](double drift_alpha) {
    BlockModelOptions options;
    options.solver.drift_alpha = drift_alpha;
    const FormatOf format_of = [&](const std::string& name) {
      return name == "model.layers.1.self_attn.o_proj.weight" ? std::nullopt : std::optional(formats.at(name));
    };
    return quantize_blocks(*files_.checkpoint, weights_of(weights), rows_, format_of, options);
  };
  made = quantize_with(0.0);
  EXPECT_EQ(made.blocks.size(), 14u - 2u - 1u);  // two of F16, one that stays
  EXPECT_EQ(made.modules.size(), 14u);
  out.overrides.push_back(quant::parse_type_override("blk.1.attn_output=F32"));
  model::export_gguf(files_, weights, out);
  const auto file = formats::Checkpoint::open(out.out);
  const auto inputs = inputs_of(*model::Llama::load(*file, {}), rows_);
  double error = 0, nearest = 0;
  for (const auto& m : made.modules) {
    const std::string parent =
        m.module == "gate_proj" || m.module == "up_proj" || m.module == "down_proj" ? "mlp" : "self_attn";
    const std::string name = fmt::format("model.layers.{}.{}.{}.weight", m.layer, parent, m.module);
    const at::Tensor x = inputs.at({m.layer, group_of(m.module)});
    const at::Tensor w = values_of(*files_.checkpoint, name);
    const double energy = at::mm(x, w.t()).square().sum().item<double>();
    const double lost = at::mm(x, (values_of(*file, name) - w).t()).square().sum().item<double>();
    if (made.blocks.count(name) > 0) {
      EXPECT_NEAR(m.error, std::sqrt(lost / energy), 1e-3 * m.error) << name;
    }
    error += m.error;
    nearest += m.nearest_error;
  }
  EXPECT_LT(error, 0.8 * nearest);
  const BlockModel moved = quantize_with(0.5);
  EXPECT_NE(moved.blocks.at("model.layers.1.mlp.down_proj.weight"),
            made.blocks.at("model.layers.1.mlp.down_proj.weight"));
  EXPECT_EQ(quantize_with(0.5).blocks, moved.blocks);
}

/// One weight of the three matrices that share an input.
TEST_F(GptqModel, WeightsThatAreNoNumbersNameTheLayer) {
  const model::MergedWeights weights(files_, model::MergeOnto::Auto);
  const WeightSource good = weights_of(weights);
  const WeightSource broken = [&](const std::string& name) {
    const at::Tensor w = good(name);
    if (name == "model.layers.0.self_attn.v_proj.weight") w[0][0] = std::numeric_limits<float>::quiet_NaN();
    return w;
  };
  const auto run = [&] {
    quantize_model(files_, broken, rows_, model::provenance_of(files_, "test"), dir_ / "out", options_);
  };
  expect_error(ErrorKind::Numeric, {"layer 0, q_proj/k_proj/v_proj", "NaN"}, run);
  EXPECT_FALSE(fs::exists(dir_ / "out" / "config.json"));
}

}  // namespace
}  // namespace slmi::calib
