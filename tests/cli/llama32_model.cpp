// See the header.
#include "llama32_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>

#include "slmi/base/error.h"
#include "slmi/base/half.h"
#include "slmi/base/random.h"

namespace slmi::cli::testing {
namespace {

constexpr int64_t kWidth = 64, kFfn = 128, kLayers = 3, kHeads = 8, kKvHeads = 2, kHeadDim = 8;
constexpr int kLearnedPairs = 600;

// --- Vocabulary ---

/// Bytes in the order of the published file: printable ones of Latin-1 first (GPT-2's byte alphabet), then the others.
std::vector<uint8_t> byte_order() {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  std::vector<uint8_t> out;
  for (const bool wanted : {true, false})
    for (int b = 0; b < 256; ++b)
      if (printable(b) == wanted) out.push_back(static_cast<uint8_t>(b));
  return out;
}

/// Words of the bundled requests (a space and letters), each with how often it occurs.
std::map<std::string, int64_t> words_of_requests() {
  std::map<std::string, int64_t> out;
  std::istringstream lines(snips_rows("train.jsonl", 300));
  for (std::string line; std::getline(lines, line);) {
    const std::string text = parse_json(line, "train.jsonl")["text"];
    for (size_t i = 0; i < text.size(); ++i) {
      const bool letter = std::isalpha(static_cast<unsigned char>(text[i])) != 0;
      if (!letter) continue;
      size_t end = i;
      while (end < text.size() && std::isalpha(static_cast<unsigned char>(text[end])) != 0) ++end;
      ++out[text.substr(i > 0 && text[i - 1] == ' ' ? i - 1 : i, end - (i > 0 && text[i - 1] == ' ' ? i - 1 : i))];
      i = end;
    }
  }
  return out;
}

/// Byte-pair encoding in its plainest form.
std::vector<std::string> learned_pairs() {
  std::vector<std::pair<std::vector<std::string>, int64_t>> words;
  for (const auto& [word, count] : words_of_requests()) {
    words.push_back({{}, count});
    for (const char c : word) words.back().first.emplace_back(1, c);
  }
  std::vector<std::string> out;
  std::set<std::string> known;
  while (out.size() < kLearnedPairs) {
    std::map<std::pair<std::string, std::string>, int64_t> counts;
    for (const auto& [parts, count] : words)
      for (size_t i = 0; i + 1 < parts.size(); ++i) counts[{parts[i], parts[i + 1]}] += count;
    const auto best = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == counts.end()) break;
    const auto [left, right] = best->first;
    if (known.insert(left + right).second) out.push_back(left + right);
    for (auto& [parts, count] : words)
      for (size_t i = 0; i + 1 < parts.size(); ++i)
        if (parts[i] == left && parts[i + 1] == right) {
          parts[i] += right;
          parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
  }
  return out;
}

/// A byte as the character that tokenizer.json writes for it, in UTF-8.
std::vector<std::string> byte_characters() {
  std::vector<std::string> out(256);
  const auto order = byte_order();
  const auto utf8 = [](int code) {
    if (code < 0x80) return std::string(1, static_cast<char>(code));
    return std::string{static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
  };
  constexpr size_t kPrintable = 188;  // those stand for themselves, the others for U+0100 on
  for (size_t i = 0; i < order.size(); ++i)
    out[order[i]] = utf8(i < kPrintable ? order[i] : 0x100 + static_cast<int>(i - kPrintable));
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < n ? static_cast<uint8_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += j <= n ? kDigits[(group >> (18 - 6 * j)) & 63] : '=';
  }
  return out;
}

std::string bytes_of_base64(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                                             : 63;
    bits = bits << 6 | static_cast<uint32_t>(value);
    have += 6;
    if (have >= 8) out += static_cast<char>(bits >> (have -= 8) & 0xFF);
  }
  return out;
}

/// Names of the 256 special tokens as the published tokenizer.json gives them.
std::vector<std::string> special_names() {
  const std::map<int, std::string> named = {
      {0, "<|begin_of_text|>"},   {1, "<|end_of_text|>"},   {4, "<|finetune_right_pad_id|>"},
      {6, "<|start_header_id|>"}, {7, "<|end_header_id|>"}, {8, "<|eom_id|>"},
      {9, "<|eot_id|>"},          {10, "<|python_tag|>"}};
  std::vector<std::string> out;
  int reserved = 0;
  for (int i = 0; i < 256; ++i)
    out.push_back(named.contains(i) ? named.at(i) : fmt::format("<|reserved_special_token_{}|>", reserved++));
  return out;
}

// --- Configuration files ---

Json tokenizer_config() {
  Json added = Json::object();
  const auto names = special_names();
  for (size_t i = 0; i < names.size(); ++i)
    added[std::to_string(kLlama3Ranks + static_cast<int64_t>(i))] = {{"content", names[i]},  {"lstrip", false},
                                                                     {"normalized", false},  {"rstrip", false},
                                                                     {"single_word", false}, {"special", true}};
  return {{"added_tokens_decoder", added},       {"bos_token", "<|begin_of_text|>"},
          {"chat_template", "{{- bos_token }}"}, {"clean_up_tokenization_spaces", true},
          {"eos_token", "<|eot_id|>"},           {"model_input_names", {"input_ids", "attention_mask"}},
          {"model_max_length", 131072},          {"tokenizer_class", "PreTrainedTokenizerFast"}};
}

Json special_tokens_map() {
  const auto token = [](const char* name) {
    return Json{{"content", name}, {"lstrip", false}, {"normalized", false}, {"rstrip", false}, {"single_word", false}};
  };
  return {{"bos_token", token("<|begin_of_text|>")}, {"eos_token", token("<|eot_id|>")}};
}

// --- Weights ---

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<uint16_t> bf16;
};

/// A safetensors file: u64 header size, header, data.
std::string safetensors_text(const std::vector<Tensor>& tensors) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& t : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(t.bf16.data()), 2 * t.bf16.size());
    header[t.name] = {{"dtype", "BF16"}, {"shape", t.shape}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string size(8, '\0');
  for (size_t i = 0; i < 8; ++i) size[i] = static_cast<char>(text.size() >> (8 * i));
  return size + text + data;
}

Tensor random_tensor(const std::string& name, std::vector<int64_t> shape, double deviation, uint64_t seed) {
  Random random(seed);
  size_t n = 1;
  for (const int64_t d : shape) n *= static_cast<size_t>(d);
  Tensor out{name, std::move(shape), {}};
  for (size_t i = 0; i < n; ++i) out.bf16.push_back(f32_to_bf16(static_cast<float>(deviation * random.normal())));
  return out;
}

/// Embeddings by which, without anything that attention or the FFN add, token i of the chain is followed by i + 1: rows
/// grow along the chain and share one direction with the row before, so that the tied head prefers the next. All other
/// rows stay near zero.
void write_chain(const std::vector<int64_t>& chain, Tensor& embedding) {
  double size = 1.0;
  for (size_t i = 0; i < chain.size(); ++i, size *= 4.0) {
    uint16_t* row = embedding.bf16.data() + chain[i] * kWidth;
    std::fill(row, row + kWidth, f32_to_bf16(0.0F));
    row[i] = row[i + 1] = f32_to_bf16(static_cast<float>(size));
  }
}

std::vector<Tensor> weights(const std::vector<int64_t>& chain) {
  const double deviation = chain.empty() ? 0.02 : 1e-4, output = chain.empty() ? 0.02 : 0.0;
  uint64_t seed = 1;
  std::vector<Tensor> out;
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns, double scale) {
    out.push_back(random_tensor(name, {rows, columns}, scale, seed++));
  };
  const auto norm = [&](const std::string& name) {
    out.push_back({name, {kWidth}, std::vector<uint16_t>(kWidth, f32_to_bf16(1.0F))});
  };
  matrix("model.embed_tokens.weight", kLlama3Vocabulary, kWidth, deviation);
  write_chain(chain, out.back());
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string p = fmt::format("model.layers.{}.", i);
    norm(p + "input_layernorm.weight");
    matrix(p + "mlp.down_proj.weight", kWidth, kFfn, output);
    matrix(p + "mlp.gate_proj.weight", kFfn, kWidth, 0.2);
    matrix(p + "mlp.up_proj.weight", kFfn, kWidth, 0.2);
    norm(p + "post_attention_layernorm.weight");
    matrix(p + "self_attn.k_proj.weight", kKvHeads * kHeadDim, kWidth, 0.2);
    matrix(p + "self_attn.o_proj.weight", kWidth, kHeads * kHeadDim, output);
    matrix(p + "self_attn.q_proj.weight", kHeads * kHeadDim, kWidth, 0.2);
    matrix(p + "self_attn.v_proj.weight", kKvHeads * kHeadDim, kWidth, 0.2);
  }
  norm("model.norm.weight");
  return out;
}

void write_weights(const fs::path& directory, const std::vector<Tensor>& tensors, WeightFiles files) {
  if (files == WeightFiles::Single) return write_text(directory / "model.safetensors", safetensors_text(tensors));
  constexpr size_t kShards = 3;
  Json map = Json::object();
  uint64_t total = 0;
  for (size_t shard = 0; shard < kShards; ++shard) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, kShards);
    const size_t begin = tensors.size() * shard / kShards, end = tensors.size() * (shard + 1) / kShards;
    const std::vector<Tensor> part(tensors.begin() + static_cast<std::ptrdiff_t>(begin),
                                   tensors.begin() + static_cast<std::ptrdiff_t>(end));
    write_text(directory / name, safetensors_text(part));
    for (const auto& t : part) {
      map[t.name] = name;
      total += 2 * t.bf16.size();
    }
  }
  write_text(directory / "model.safetensors.index.json",
             Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2));
}

}  // namespace

std::vector<std::string> tiny_llama3_tokens() {
  std::vector<std::string> out;
  for (const uint8_t b : byte_order()) out.emplace_back(1, static_cast<char>(b));
  out.emplace_back("\n\n");
  for (const auto& pair : learned_pairs()) out.push_back(pair);
  std::vector<std::string> pairs;
  for (int a = 0x80; a < 0x100; ++a)
    for (int b = 0x80; b < 0x100; ++b) pairs.push_back({static_cast<char>(a), static_cast<char>(b)});
  out.insert(out.end(), pairs.begin(), pairs.end());
  for (size_t i = 0; static_cast<int64_t>(out.size()) < kLlama3Ranks; ++i)
    out.push_back(pairs[i % pairs.size()] + static_cast<char>(0x80 + i / pairs.size()));
  return out;
}

std::vector<std::string> tokens_of_tiktoken(const fs::path& file) {
  std::vector<std::string> out;
  std::istringstream lines(read_text(file));
  for (std::string line; std::getline(lines, line);) out.push_back(bytes_of_base64(line.substr(0, line.find(' '))));
  return out;
}

std::string tiktoken_text(const std::vector<std::string>& tokens) {
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) out += fmt::format("{} {}\n", base64(tokens[i]), i);
  return out;
}

std::string tokenizer_json_text(const std::vector<std::string>& tokens) {
  const auto characters = byte_characters();
  const auto shown = [&](std::string_view bytes) {
    std::string out;
    for (const char c : bytes) out += characters[static_cast<uint8_t>(c)];
    return out;
  };
  std::unordered_map<std::string_view, size_t> ranks;
  for (size_t i = 0; i < tokens.size(); ++i) ranks.emplace(tokens[i], i);
  // The frame of a published file; what is the vocabulary's own is put in.
  Json json = read_json_file((fs::path(SLMI_SOURCE_DIR) / "tests/text/golden/tiny_llama3.json").string());
  Json vocab = Json::object(), merges = Json::array(), added = Json::array();
  std::string entries;
  for (size_t i = 0; i < tokens.size(); ++i) {
    entries += fmt::format("{}{}:{}", i == 0 ? "" : ",", Json(shown(tokens[i])).dump(), i);
    std::vector<std::pair<size_t, size_t>> splits;
    for (size_t cut = 1; cut < tokens[i].size(); ++cut) {
      const std::string_view whole = tokens[i];
      const auto left = ranks.find(whole.substr(0, cut)), right = ranks.find(whole.substr(cut));
      if (left != ranks.end() && right != ranks.end()) splits.emplace_back(left->second, right->second);
    }
    std::sort(splits.begin(), splits.end());
    for (const auto& [left, right] : splits) merges.push_back(shown(tokens[left]) + " " + shown(tokens[right]));
  }
  const auto names = special_names();
  for (size_t i = 0; i < names.size(); ++i)
    added.push_back({{"id", tokens.size() + i},
                     {"content", names[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  json["added_tokens"] = added;
  json["post_processor"]["special_tokens"]["<|begin_of_text|>"]["ids"] = {tokens.size()};
  json["model"]["vocab"] = "VOCABULARY";
  json["model"]["merges"] = merges;
  std::string text = json.dump();
  const std::string place = "\"VOCABULARY\"";
  return text.replace(text.find(place), place.size(), "{" + entries + "}");
}

Json llama32_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"bos_token_id", 128000},
          {"eos_token_id", {128001, 128008, 128009}},
          {"head_dim", kHeadDim},
          {"hidden_act", "silu"},
          {"hidden_size", kWidth},
          {"initializer_range", 0.02},
          {"intermediate_size", kFfn},
          {"max_position_embeddings", 131072},
          {"mlp_bias", false},
          {"model_type", "llama"},
          {"num_attention_heads", kHeads},
          {"num_hidden_layers", kLayers},
          {"num_key_value_heads", kKvHeads},
          {"pretraining_tp", 1},
          {"rms_norm_eps", 1e-05},
          {"rope_scaling",
           {{"factor", 32.0},
            {"high_freq_factor", 4.0},
            {"low_freq_factor", 1.0},
            {"original_max_position_embeddings", 8192},
            {"rope_type", "llama3"}}},
          {"rope_theta", 500000.0},
          {"tie_word_embeddings", true},
          {"torch_dtype", "bfloat16"},
          {"transformers_version", "4.45.0.dev0"},
          {"use_cache", true},
          {"vocab_size", kLlama3Vocabulary}};
}

Json llama32_generation_config() {
  return {{"bos_token_id", 128000}, {"do_sample", true}, {"eos_token_id", {128001, 128008, 128009}},
          {"temperature", 0.6},     {"top_p", 0.9},      {"transformers_version", "4.45.0.dev0"}};
}

void write_llama32(const fs::path& directory, const std::vector<std::string>& tokens, const Llama32Options& options) {
  write_text(directory / "config.json", llama32_config().dump(2));
  write_text(directory / "generation_config.json", llama32_generation_config().dump(2));
  write_text(directory / "tokenizer_config.json", tokenizer_config().dump(2));
  write_text(directory / "special_tokens_map.json", special_tokens_map().dump(2));
  write_weights(directory, weights(options.chain), options.weights);
  if (options.tokenizer == TokenizerFile::Json) write_text(directory / "tokenizer.json", tokenizer_json_text(tokens));
  if (options.tokenizer == TokenizerFile::Beside) write_text(directory / "tokenizer.model", tiktoken_text(tokens));
  if (options.tokenizer == TokenizerFile::Original)
    write_text(directory / "original/tokenizer.model", tiktoken_text(tokens));
}

std::string snips_rows(const std::string& name, int64_t count) {
  const std::string text = read_text(fs::path(SLMI_SOURCE_DIR) / "data/snips" / name);
  size_t end = 0;
  for (int64_t i = 0; i < count && end != std::string::npos; ++i) end = text.find('\n', end) + 1;
  return text.substr(0, end);
}

}  // namespace slmi::cli::testing
