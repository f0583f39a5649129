// Llama 3.2's road, rehearsed on a tiny model that looks like it file by file: inspect, train, merge, eval, predict.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <sstream>

#include "llama32_model.h"
#include "slmi/text/tokenizer.h"

namespace slmi::cli::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kTraining =
    " --data rows.jsonl --limit 12 --template llama3 --epochs 8 --max-steps 20 --batch-size 4 --lora-rank 4 --lr 2e-2 "
    "--compute f32"
    " --seed 3";
const std::vector<int64_t> kEndIds = {128001, 128008, 128009};

std::vector<std::string> texts_of(const std::string& rows) {
  std::vector<std::string> out;
  std::istringstream lines(rows);
  for (std::string line; std::getline(lines, line);) out.push_back(parse_json(line, "rows")["text"]);
  return out;
}

/// Requests, and what vocabularies differ in: scripts, emoji, digits, white space, text that looks like special tokens.
std::vector<std::string> awkward_texts() {
  auto out = texts_of(snips_rows("test.jsonl", 200));
  for (const char* text :
       {"  It's 1234567 times\n\n\tso\xC3\xA9 \xE2\x82\xAC 7\r\n\r\n ", "<|eot_id|>not special<|begin_of_text|>",
        "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C \xF0\x9F\xA5\x9B\xF0\x9F\x91\xA9\xE2\x80\x8D"
        "\xF0\x9F\x9A\x80",
        "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD9\x85\xD8\xB1\xD8\xAD\xD8\xA8\xD8\xA7",
        "if (x != 0) {\n    return f(x)[1];  // y\n}\n", "a          b", "we'll DON'T I'Ve"})
    out.emplace_back(text);
  return out;
}

class Llama32 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { tokens_ = tiny_llama3_tokens(); }
  void SetUp() override {
    ASSERT_EQ(tokens_.size(), static_cast<size_t>(kLlama3Ranks));
    write_text(dir_ / "rows.jsonl", snips_rows("train.jsonl", 40));
    write_text(dir_ / "test.jsonl", snips_rows("test.jsonl", 6));
  }
  void write(const std::string& name, const Llama32Options& options) { write_llama32(dir_ / name, tokens_, options); }
  Outcome slmi(const std::string& arguments) {
    const Outcome got = run("slmi " + arguments, dir_.path());
    EXPECT_EQ(got.code, 0) << arguments << "\n" << got.err;
    return got;
  }
  Json inspect(const std::string& name) { return parse_json(slmi("inspect --json --tensors " + name).out, name).at(0); }
  Json answer(const std::string& arguments) {
    const Outcome got =
        slmi("predict --compute f32 --max-new-tokens 12 --model " + arguments + " 'play some jazz in the kitchen'");
    return parse_json(got.out, arguments);
  }
  std::string file(const std::string& name) const { return read_text(dir_ / name); }

  static std::vector<std::string> tokens_;
  TemporaryDirectory dir_;
};
std::vector<std::string> Llama32::tokens_;

/// What inspect should say of each layout.
void expect_facts(const Json& found, int64_t tensors) {
  EXPECT_EQ(found["kind"], "Hugging Face directory");
  EXPECT_TRUE(found["sound"].get<bool>()) << found["problems"];
  const Json &facts = found["facts"], config = facts["config"], want = llama32_config();
  for (const auto& [ours, theirs] :
       std::vector<std::pair<const char*, const char*>>{{"layers", "num_hidden_layers"},
                                                        {"width", "hidden_size"},
                                                        {"ffn", "intermediate_size"},
                                                        {"heads", "num_attention_heads"},
                                                        {"kv_heads", "num_key_value_heads"},
                                                        {"head_width", "head_dim"},
                                                        {"vocabulary", "vocab_size"},
                                                        {"context", "max_position_embeddings"},
                                                        {"rope_theta", "rope_theta"}})
    EXPECT_EQ(config[ours], want[theirs]) << ours;
  EXPECT_EQ(config["head"], "tied");
  EXPECT_EQ(config["rope_scaling"], "llama3");
  const Json& rope = facts["rope_scaling"];
  EXPECT_EQ(rope["factor"], 32.0);
  EXPECT_EQ(rope["low_freq_factor"], 1.0);
  EXPECT_EQ(rope["high_freq_factor"], 4.0);
  EXPECT_EQ(rope["original_context"], 8192);
  EXPECT_EQ(facts["eos_token_ids"], Json(kEndIds));
  std::vector<int64_t> stops = facts["stop_ids"];
  std::sort(stops.begin(), stops.end());
  EXPECT_EQ(stops, kEndIds);
  EXPECT_EQ(facts["tokenizer"]["tokens"], kLlama3Vocabulary);
  EXPECT_EQ(facts["tokenizer"]["special_tokens"], 256);
  EXPECT_EQ(facts["tokenizer"]["splitter"], "llama3");
  EXPECT_EQ(facts["tokenizer"]["bos"], "128000 <|begin_of_text|>");
  EXPECT_EQ(facts["tokenizer"]["eos"], "128009 <|eot_id|>");
  EXPECT_EQ(facts["template"]["name"], "llama3");
  EXPECT_EQ(facts["values"], "all finite");
  EXPECT_EQ(facts["tensors"].size(), 1u);
  EXPECT_EQ(facts["tensors"][0]["format"], "BF16");
  EXPECT_EQ(facts["tensors"][0]["tensors"], tensors);
}

TEST_F(Llama32, InspectSaysTheSameOfEveryLayout) {
  write("json", {WeightFiles::Single, TokenizerFile::Json});
  write("beside", {WeightFiles::Sharded, TokenizerFile::Beside});
  write("original", {WeightFiles::Single, TokenizerFile::Original});
  EXPECT_FALSE(fs::exists(dir_ / "beside/model.safetensors"));
  const Json json = inspect("json"), beside = inspect("beside"), original = inspect("original");
  for (const auto* found : {&json, &beside, &original}) expect_facts(*found, 29);
  for (const char* key : {"fingerprint", "tokenizer", "template", "parameters", "tensors"}) {
    EXPECT_EQ(json["facts"][key], beside["facts"][key]) << key;
    EXPECT_EQ(json["facts"][key], original["facts"][key]) << key;
  }
  const std::string text = slmi("inspect beside").out;
  EXPECT_THAT(text, HasSubstr("beside: Hugging Face directory, sound"));
  EXPECT_THAT(text, HasSubstr("factor 32.0, low_freq_factor 1.0, high_freq_factor 4.0, original_context 8192"));
  EXPECT_THAT(text, HasSubstr("128001 128008 128009"));
}

TEST_F(Llama32, AShardThatIsMissingIsNamed) {
  write("base", {WeightFiles::Sharded, TokenizerFile::Beside});
  fs::remove(dir_ / "base/model-00002-of-00003.safetensors");
  const Outcome got = run("slmi train --dry-run --base base" + std::string(kTraining), dir_.path());
  EXPECT_EQ(got.code, 3);
  EXPECT_THAT(got.err, HasSubstr("model-00002-of-00003.safetensors"));
}

void expect_equal_ids(const fs::path& tiktoken, const fs::path& json) {
  const auto a = text::Tokenizer::load(tiktoken), b = text::Tokenizer::load(json);
  EXPECT_EQ(a->hash(), b->hash());
  EXPECT_EQ(a->vocab_size(), kLlama3Vocabulary);
  EXPECT_EQ(b->vocab_size(), kLlama3Vocabulary);
  EXPECT_EQ(a->bos_id(), b->bos_id());
  EXPECT_EQ(a->eos_id(), b->eos_id());
  EXPECT_EQ(a->wants_bos(), b->wants_bos());
  size_t ids = 0, bytes = 0;
  for (const auto& text : awkward_texts()) {
    const auto got = a->encode(text);
    EXPECT_EQ(got, b->encode(text)) << text;
    EXPECT_EQ(a->decode(got), text);
    ids += got.size();
    bytes += text.size();
  }
  EXPECT_LT(ids, bytes * 3 / 4);  // tokens of several bytes are in use
}

TEST_F(Llama32, TiktokenFileAndTokenizerJsonGiveTheSameIds) {
  write("json", {WeightFiles::Single, TokenizerFile::Json});
  write("beside", {WeightFiles::Single, TokenizerFile::Beside});
  write("original", {WeightFiles::Single, TokenizerFile::Original});
  expect_equal_ids(dir_ / "beside", dir_ / "json");
  expect_equal_ids(dir_ / "original", dir_ / "json");
  const auto shown = [&](const std::string& base, const std::string& flags) {
    return slmi("train --base " + base + " --data rows.jsonl --show-batch 5 " + flags).out;
  };
  const std::string batch = shown("json", "");
  EXPECT_THAT(batch, HasSubstr("128000 128006 "));  // begin, then the header of the first turn
  EXPECT_THAT(batch, HasSubstr("128009]]"));        // the answer ends with the end of its turn
  EXPECT_EQ(batch, shown("beside", ""));
  EXPECT_EQ(batch, shown("original", ""));
}

TEST_F(Llama32, EveryLayoutTrainsTheSameAdapter) {
  write("json", {WeightFiles::Single, TokenizerFile::Json});
  write("beside", {WeightFiles::Sharded, TokenizerFile::Beside});
  write("original", {WeightFiles::Single, TokenizerFile::Original});
  for (const std::string name : {"json", "beside", "original"})
    slmi("train --base " + name + kTraining + " --out run-" + name);
  const std::string weights = "/adapter/adapter_model.safetensors";
  for (const std::string name : {"beside", "original"}) {
    EXPECT_EQ(file("run-json" + weights), file("run-" + name + weights)) << name;
    EXPECT_EQ(file("run-json/metrics.jsonl"), file("run-" + name + "/metrics.jsonl")) << name;
  }
  // Trained indeed: the loss fell, and other rows would have given another adapter.
  std::vector<double> losses;
  std::istringstream lines(file("run-json/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    if (const Json entry = parse_json(line, "metrics"); entry.contains("loss")) losses.push_back(entry["loss"]);
  ASSERT_EQ(losses.size(), 20u);
  EXPECT_NEAR(losses.front(), std::log(static_cast<double>(kLlama3Vocabulary)), 0.1);  // knows nothing yet
  EXPECT_LT(losses.back(), losses.front() - 0.3);  // the head is frozen, and with rows of 0.16 it reaches 1.3 at most
  write_text(dir_ / "rows.jsonl", snips_rows("val.jsonl", 40));
  slmi("train --base json" + std::string(kTraining) + " --out run-other");
  EXPECT_NE(file("run-json" + weights), file("run-other" + weights));
}

/// Every key of the base's config.json with its value, but for the type of the numbers.
void expect_config_kept(const Json& merged, const std::string& dtype) {
  const Json base = llama32_config();
  for (const auto& item : base.items()) {
    ASSERT_TRUE(merged.contains(item.key())) << item.key();
    const Json want = item.key() == "torch_dtype" ? Json(dtype) : item.value();
    EXPECT_EQ(merged[item.key()], want) << item.key();
  }
}

std::map<std::string, Json> models_of(const fs::path& report) {
  std::map<std::string, Json> out;
  const Json json = read_json_file(report.string());
  for (const auto& model : json["models"]) out[model["name"]] = model;
  return out;
}

/// Merges `run` (f32 and bf16) and holds base, run and merged model against each other.
void expect_merge_and_eval(const fs::path& directory, const std::function<Outcome(const std::string&)>& slmi,
                           const std::function<Json(const std::string&)>& answer) {
  slmi("merge --model run --out merged32 --dtype f32");
  slmi("merge --model run --out merged --max-shard-gb 0.01");
  expect_config_kept(read_json_file((directory / "merged32/config.json").string()), "float32");
  expect_config_kept(read_json_file((directory / "merged/config.json").string()), "bfloat16");
  EXPECT_TRUE(fs::exists(directory / "merged/model.safetensors.index.json"));
  const Json generation = read_json_file((directory / "merged/generation_config.json").string());
  std::vector<int64_t> ends = generation["eos_token_id"];
  std::sort(ends.begin(), ends.end());
  EXPECT_EQ(ends, kEndIds);

  // Of a base that nothing is known to be made from, nothing is noted.
  EXPECT_EQ(slmi("predict --max-new-tokens 1 --model run hello").err, "");
  const Json bare = answer("base"), tuned = answer("run"), merged = answer("merged32");
  EXPECT_EQ(tuned["answer"], merged["answer"]);
  const Json form = read_json_file((directory / "run/adapter/slmi.json").string())["answer_form"];
  EXPECT_TRUE(form.contains("json")) << form;
  EXPECT_EQ(read_json_file((directory / "merged32/slmi.json").string())["answer_form"], form);
  EXPECT_GT(tuned["held"].get<int64_t>(), 0);  // twelve rows teach a random model no JSON
  EXPECT_NEAR(tuned["log_probability"].get<double>(), merged["log_probability"].get<double>(), 1e-3);
  // The adapter is at work: a hundred times what parts it from its own merged form.
  EXPECT_GT(std::abs(tuned["log_probability"].get<double>() - bare["log_probability"].get<double>()), 0.1);

  slmi(
      "eval --model base --model tuned=run --model merged=merged32 --data test.jsonl --out eval --compute f32 "
      "--max-new-tokens 24 --latency-rows 3 --latency-seconds 3 --batch-sizes 1,2 --baselines none");
  const auto models = models_of(directory / "eval/report.json");
  ASSERT_EQ(models.size(), 3u);
  for (const auto& [name, model] : models) {
    EXPECT_EQ(model["n"], 6) << name;
    EXPECT_EQ(model["weights"], "random") << name;
    EXPECT_EQ(model["template"], "llama3") << name;
    EXPECT_GT(model["decode_tokens_per_s"].get<double>(), 0.0) << name;
  }
  EXPECT_EQ(models.at("tuned")["tokenizer_sha256"], models.at("merged")["tokenizer_sha256"]);
  std::map<std::string, std::vector<std::string>> answers;
  std::istringstream lines(read_text(directory / "eval/predictions.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const Json entry = parse_json(line, "predictions");
    answers[entry["model"]].push_back(entry["answer"]);
  }
  EXPECT_EQ(answers["tuned"], answers["merged"]);
  EXPECT_NE(answers["tuned"], answers["base"]);
}

TEST_F(Llama32, AMergedModelAnswersAsBaseAndAdapterAndKeepsTheConfiguration) {
  write("base", {WeightFiles::Sharded, TokenizerFile::Original});
  slmi("train --base base" + std::string(kTraining) + " --out run");
  EXPECT_EQ(read_json_file((dir_ / "run/adapter/slmi.json").string())["weights"], "random");
  expect_merge_and_eval(
      dir_.path(), [&](const std::string& a) { return slmi(a); }, [&](const std::string& a) { return answer(a); });
  expect_facts(inspect("merged"), 29);
  EXPECT_EQ(file("merged/tokenizer.model"), file("base/original/tokenizer.model"));
  EXPECT_EQ(file("merged/special_tokens_map.json"), file("base/special_tokens_map.json"));
}

// The ids of the list are stopped at whether or not the template has them; others are not.
TEST_F(Llama32, GenerationStopsAtEachIdOfTheList) {
  write_text(dir_ / "one-stop.json", R"({
    "bos": "<|begin_of_text|>",
    "turn_prefix": "<|start_header_id|>{role}<|end_header_id|>\n\n",
    "turn_suffix": "<|eot_id|>",
    "stop": ["<|eot_id|>"],
    "special_tokens": ["<|start_header_id|>", "<|end_header_id|>"]})");
  constexpr int64_t kBlankLine = 256, kFirst = 300, kSecond = 310;  // "\n\n", which ends the prompt, and two words
  ASSERT_EQ(tokens_[kBlankLine], "\n\n");
  const std::string words = tokens_[kFirst] + tokens_[kSecond];
  for (const int64_t end : {kEndIds[0], kEndIds[1], kEndIds[2]}) {
    write("base", {WeightFiles::Single, TokenizerFile::Beside, {kBlankLine, kFirst, kSecond, end}});
    for (const std::string chat : {"llama3", "one-stop.json"}) {
      const Json got = answer("base --template " + chat);
      EXPECT_EQ(got["answer"], words) << end << " " << chat;
      EXPECT_EQ(got["complete"], true) << end << " " << chat;
    }
  }
  constexpr int64_t kPythonTag = 128010;
  write("base", {WeightFiles::Single, TokenizerFile::Beside, {kBlankLine, kFirst, kSecond, kPythonTag}});
  EXPECT_EQ(answer("base")["complete"], false);
}

// The same with the published vocabulary.
TEST(Llama32Real, ThePublishedTokenizerFileGoesTheWholeRoad) {
  const char* path = std::getenv("SLMI_LLAMA3_TOKENIZER");
  if (path == nullptr || !fs::exists(path)) GTEST_SKIP() << "SLMI_LLAMA3_TOKENIZER names no file";
  const TemporaryDirectory dir;
  const auto tokens = tokens_of_tiktoken(path);
  ASSERT_EQ(static_cast<int64_t>(tokens.size()), kLlama3Ranks);
  write_text(dir / "rows.jsonl", snips_rows("train.jsonl", 40));
  write_text(dir / "test.jsonl", snips_rows("test.jsonl", 6));
  write_llama32(dir / "base", tokens, {WeightFiles::Sharded, TokenizerFile::Original});
  write_llama32(dir / "json", tokens, {WeightFiles::Single, TokenizerFile::Json});
  EXPECT_EQ(read_text(dir / "base/original/tokenizer.model"), read_text(path));
  expect_equal_ids(dir / "base", dir / "json");
  const auto slmi = [&](const std::string& arguments) {
    const Outcome got = run("slmi " + arguments, dir.path());
    EXPECT_EQ(got.code, 0) << arguments << "\n" << got.err;
    return got;
  };
  const auto answer = [&](const std::string& model) {
    return parse_json(slmi("predict --compute f32 --max-new-tokens 12 --model " + model + " 'play some jazz'").out,
                      model);
  };
  expect_facts(parse_json(slmi("inspect --json base").out, "base").at(0), 29);
  for (const std::string name : {"base", "json"})
    slmi("train --base " + name + kTraining + " --out " + (name == "base" ? "run" : "run-json"));
  EXPECT_EQ(read_text(dir / "run/adapter/adapter_model.safetensors"),
            read_text(dir / "run-json/adapter/adapter_model.safetensors"));
  expect_merge_and_eval(dir.path(), slmi, answer);
}

}  // namespace
}  // namespace slmi::cli::testing
