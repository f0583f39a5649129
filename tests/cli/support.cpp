// See the header.
#include "support.h"

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "../formats/tiny_model.h"
#include "slmi/base/error.h"
#include "slmi/formats/gguf.h"
#include "slmi/quant/gguf_codec.h"

namespace slmi::cli::testing {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// In the order of ids.
std::vector<std::string> tiny_tokens() {
  std::vector<std::string> out = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "\xC4\xA0", "\xC4\x8A"};  // space, LF
  for (char c = '!'; c <= '~'; ++c)
    if (std::string_view("^~`|@#").find(c) == std::string_view::npos) out.emplace_back(1, c);
  for (const char* merged : {"in", "on", "er"}) out.emplace_back(merged);
  return out;
}
const std::vector<std::string> kTinyMerges = {"i n", "o n", "e r"};

}  // namespace

Outcome run(const std::string& command_line, const fs::path& directory,
            const std::map<std::string, std::string>& environment) {
  const TemporaryDirectory streams;
  std::string script = "cd " + quoted(directory.string()) + " && slmi() { " + quoted(SLMI_PROGRAM) + " \"$@\"; } && ";
  for (const auto& [name, value] : environment) script += "export " + name + "=" + quoted(value) + " && ";
  script += "{ " + command_line + "\n} >" + quoted((streams / "out").string()) + " 2>" +
            quoted((streams / "err").string()) + " </dev/null";
  const int status = std::system(script.c_str());
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = read_text(streams / "out");
  outcome.err = read_text(streams / "err");
  return outcome;
}

fs::path golden_model(const std::string& name) {
  return fs::path(SLMI_SOURCE_DIR) / "tests/model/golden" / name;
}

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_text(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

std::string tiny_tokenizer_json() {
  Json vocab = Json::object(), added = Json::array();
  const auto tokens = tiny_tokens();
  for (size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  for (size_t i = 0; i < 3; ++i) added.push_back({{"id", i}, {"content", tokens[i]}, {"special", true}});
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return Json{{"added_tokens", added},
              {"normalizer", nullptr},
              {"pre_tokenizer", byte_level},
              {"decoder", byte_level},
              {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", kTinyMerges}}}}
      .dump(1);
}

void write_tiny_base(const fs::path& directory) {
  fs::create_directories(directory);
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy_file(golden_model("tiny-tied") / name, directory / name);
  write_text(directory / "tokenizer.json", tiny_tokenizer_json());
}

void write_tiny_gguf(const fs::path& path) {
  const auto base = formats::Checkpoint::open(golden_model("tiny-tied"));
  const auto& c = base->config();
  formats::GgufWriter w;
  w.add_string("general.architecture", "llama");
  const auto u32 = [&](const char* key, int64_t value) { w.add_u32(key, static_cast<uint32_t>(value)); };
  u32("llama.embedding_length", c.hidden_size);
  u32("llama.feed_forward_length", c.intermediate_size);
  u32("llama.block_count", c.num_layers);
  u32("llama.attention.head_count", c.num_heads);
  u32("llama.attention.head_count_kv", c.num_kv_heads);
  u32("llama.context_length", c.max_position_embeddings);
  w.add_f32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.rms_norm_eps));
  w.add_f32("llama.rope.freq_base", static_cast<float>(c.rope_theta));
  const auto tokens = tiny_tokens();
  std::vector<int32_t> types(tokens.size(), 1);
  for (size_t i = 0; i < 3; ++i) types[i] = 3;
  w.add_string("tokenizer.ggml.model", "gpt2");
  w.add_string("tokenizer.ggml.pre", "gpt-2");
  w.add_strings("tokenizer.ggml.tokens", tokens);
  w.add_i32s("tokenizer.ggml.token_type", types);
  w.add_strings("tokenizer.ggml.merges", kTinyMerges);
  u32("tokenizer.ggml.bos_token_id", 1);
  u32("tokenizer.ggml.eos_token_id", 2);
  std::vector<std::vector<std::byte>> kept;
  kept.reserve(2 * base->names().size());
  for (const auto& name : base->names()) {
    const auto tensor = base->tensor(name);
    const auto values = formats::to_floats(tensor);
    auto format = quant::WeightFormat::F32;
    const int64_t k = tensor.shape.back(), n = static_cast<int64_t>(values.size()) / k;
    if (tensor.shape.size() == 2) format = k % 32 == 0 ? quant::WeightFormat::Q8_0 : quant::WeightFormat::F16;
    kept.push_back(quant::quantize(format, values, n, k));
    const int64_t heads = name.ends_with("q_proj.weight")   ? c.num_heads
                          : name.ends_with("k_proj.weight") ? c.num_kv_heads
                                                            : 0;
    const auto row = static_cast<uint64_t>(quant::row_bytes(format, k));
    if (heads > 0) kept.push_back(formats::rows_to_interleaved(kept.back(), heads, c.head_dim, row));
    w.add_tensor(formats::gguf_name_of_hf(name), format, tensor.shape, kept.back());
  }
  w.write(path);
}

void write_gptq_base(const fs::path& directory) {
  formats::LlamaConfig config;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_layers = 2;
  config.num_heads = config.num_kv_heads = 4;
  config.head_dim = 8;
  config.vocab_size = 96;
  config.max_position_embeddings = 512;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  config.tie_word_embeddings = true;
  formats::TinyModel(config).write_directory(directory);
  write_text(directory / "tokenizer.json", tiny_tokenizer_json());
}

std::string gptq_rows() {
  std::string out;
  for (int i = 0; i < 20; ++i)
    out += "{\"text\": \"play song number " + std::to_string(37 * i) + " now\", \"answer\": \"music\"}\n";
  return out;
}

std::vector<float> values_of(const formats::Checkpoint& checkpoint, const std::string& name) {
  const auto tensor = checkpoint.tensor(name);
  const int64_t k = tensor.shape.back();
  return quant::dequantize(tensor.format, tensor.bytes, static_cast<int64_t>(formats::num_elements(tensor.shape)) / k,
                           k);
}

}  // namespace slmi::cli::testing
