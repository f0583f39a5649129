// A tiny random Llama 3 with a tokenizer of single bytes, written into a directory, and what it answers one request at
// a time.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../base/temporary_directory.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/random.h"
#include "slmi/decode/generator.h"
#include "slmi/eval/measure.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/formats/hf_directory.h"
#include "slmi/model/open.h"

namespace slmi::eval {

namespace fs = std::filesystem;

inline std::string base64(std::string_view bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0U);
    for (size_t j = 0; j < 4; ++j) out += i + j <= bytes.size() ? kAlphabet[group >> (18 - 6 * j) & 63U] : '=';
  }
  return out;
}

/// Two layers, 512 tokens: bytes, then Llama 3's specials.
enum class Norms { Moved, Fresh };  // Fresh: all 1, as before any training
inline formats::LlamaConfig tiny_config() {
  formats::LlamaConfig config;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 512;
  config.max_position_embeddings = 512;
  config.tie_word_embeddings = true;
  config.eos_token_ids = {257, 264, 265};
  return config;
}

inline void write_tiny_model(const fs::path& directory, uint64_t seed, const std::string& weights,
                             Norms norms = Norms::Moved, const formats::LlamaConfig& config = tiny_config()) {
  Random random(seed);
  std::vector<formats::OutputTensor> tensors;
  for (const auto& expected : formats::expected_tensors(config)) {
    const bool norm = expected.name.ends_with("norm.weight");
    std::vector<float> values(formats::num_elements(expected.shape));
    const float mean = norm ? 1.0F : 0.0F, spread = !norm ? 0.5F : norms == Norms::Moved ? 0.1F : 0.0F;
    for (float& v : values) v = mean + spread * static_cast<float>(random.normal());
    const auto bytes = std::as_bytes(std::span(values));
    formats::OutputTensor tensor{expected.name, formats::Dtype::F32, expected.shape};
    tensor.produce = [copy = std::vector<std::byte>(bytes.begin(), bytes.end())] { return copy; };
    tensors.push_back(std::move(tensor));
  }
  fs::create_directories(directory);
  formats::Provenance provenance;
  provenance.weights = weights;
  formats::HfWriteOptions options;
  options.dtype = "float32";
  formats::write_hf_directory(directory, config, tensors, provenance, options);
  std::string vocabulary;
  for (int byte = 0; byte < 256; ++byte)
    vocabulary += fmt::format("{} {}\n", base64(std::string(1, static_cast<char>(byte))), byte);
  write_file_atomically(directory / "tokenizer.model", vocabulary);
}

/// Answers of at most `max_new_tokens` tokens, asked one by one without any cache between requests.
inline std::vector<std::string> answers_one_by_one(const fs::path& model, const std::vector<std::string>& requests,
                                                   const std::string& system, int64_t max_new_tokens) {
  at::set_num_threads(1);  // the model is too small to share
  const auto opened = model::open_model(model, {});
  std::vector<std::string> out;
  for (const auto& request : requests) {
    std::vector<text::Message> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", request});
    decode::Generator generator(opened.llama, decode::PrefixCache::Off);
    const decode::Prompt prompt{opened.files.prompts->build(messages).ids, 0};
    const auto answer =
        generator.generate(std::span(&prompt, 1), {max_new_tokens, model::stop_ids(opened.files)}).front();
    out.push_back(opened.files.prompts->decode_answer(answer.ids));
  }
  return out;
}

inline void write_lines(const fs::path& file, const std::vector<Json>& lines) {
  std::string text;
  for (const auto& line : lines) text += line.dump() + "\n";
  write_file_atomically(file, text);
}

inline std::vector<Json> read_lines(const fs::path& file) {
  std::ifstream in(file);
  std::vector<Json> out;
  for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line));
  return out;
}

}  // namespace slmi::eval
